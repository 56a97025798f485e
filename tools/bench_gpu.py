"""Benchmark of the GPU rasterizer beside gsplat, in turn: gsplat's batched call, and a Python loop over its views.

    python tools/bench_gpu.py [--small] [--seconds N] [--json FILE]

Medians in ms by CUDA events: forward, backward (gradients of every parameter and of all poses), the whole step (render,
loss, backward, fused Adam), and forward + backward replayed from a CUDA graph. Peak memory is torch's, above what holds
the scene. --small runs every kernel once on small scenes and measures nothing: for compute-sanitizer.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from bench_work import WorkItem, work_item  # noqa: E402

from deblurgs.errors import DeblurgsError  # noqa: E402
from deblurgs.raster.backend import Backend, choose  # noqa: E402
from deblurgs.train.losses import photometric_loss  # noqa: E402

# name, Gaussians, width, height, views
ITEMS = (
    ("W", 20_000, 256, 192, 1),
    ("W10", 20_000, 256, 192, 10),
    ("exposure 600x400", 50_000, 600, 400, 10),
    ("W at 1280x720, 200k", 200_000, 1280, 720, 1),
    ("W10 at 1280x720, 200k", 200_000, 1280, 720, 10),
    ("W10 at 1280x720, 500k", 500_000, 1280, 720, 10),
    ("W10 at 1280x720, 1M", 1_000_000, 1280, 720, 10),
)
ROUNDS = 3
Render = Callable[[list[Tensor]], Tensor]


def methods(item: WorkItem, weights: Tensor) -> dict[str, Render | str]:
    """How to render an exposure from the leaves, by method; a sentence where a method cannot run here."""
    probe = weights[:1, None]

    def batched(backend: Backend) -> Render:
        return lambda leaves: backend.render_exposure(*leaves, weights=weights, camera=item.camera).image

    def looped(backend: Backend) -> Render:
        one = weights.new_ones(1)

        def render(leaves: list[Tensor]) -> Tensor:
            total: Tensor | float = 0.0
            for view in range(len(weights)):
                image = backend.render_exposure(
                    *leaves[:6], viewmats=leaves[6][view : view + 1], weights=one, camera=item.camera
                ).image
                total = total + weights[view] * image
            assert isinstance(total, Tensor)
            return total

        return render

    found: dict[str, Render | str] = {}
    for name, backend_name, way in (
        ("deblurgs", "cuda", batched),
        ("gsplat", "gsplat", batched),
        ("gsplat, loop", "gsplat", looped),
    ):
        try:
            found[name] = way(choose(backend_name, probe))
        except DeblurgsError as error:
            found[name] = str(error)
    return found


def milliseconds(action: Callable[[], Any], repeats: int) -> float:
    events = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)
    ]
    for start, end in events:
        start.record()
        action()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(start.elapsed_time(end) for start, end in events)


class Case:
    """One method on one work item."""

    def __init__(self, item: WorkItem, render: Render) -> None:
        self.render = render
        self.leaves = [t.cuda().requires_grad_() for t in item.tensors()]
        self.gradient = item.image_gradient.cuda()
        self.observed = torch.rand(item.camera.height, item.camera.width, 3, device="cuda")
        self.adam = torch.optim.Adam(self.leaves, lr=1e-6, fused=True)

    def forward(self) -> Tensor:
        return self.render(self.leaves)

    def both(self) -> None:
        self.adam.zero_grad(set_to_none=True)
        self.forward().backward(self.gradient)

    def step(self) -> None:
        self.adam.zero_grad(set_to_none=True)
        photometric_loss(self.forward(), self.observed).backward()
        self.adam.step()

    def measure(self, repeats: int) -> dict[str, float]:
        for action in (self.both, self.step):
            for _ in range(3):
                action()
        forward = milliseconds(self.forward, repeats)
        both = milliseconds(self.both, repeats)
        return {
            "forward_ms": forward, "backward_ms": both - forward, "total_ms": both,
            "step_ms": milliseconds(self.step, repeats),
        }  # fmt: skip

    def peak_mb(self) -> float:
        self.adam.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.both()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20

    def replay_ms(self, repeats: int) -> float | str:
        """Forward and backward from a CUDA graph, or why it cannot be captured."""
        try:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self.both()
            torch.cuda.current_stream().wait_stream(side)
            self.adam.zero_grad(set_to_none=True)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.forward().backward(self.gradient)
            return milliseconds(graph.replay, repeats)
        except Exception as error:  # A failed capture must not stop the other figures.
            return f"{type(error).__name__}: {error}"


def measure_item(name: str, num: int, width: int, height: int, views: int, deadline: float) -> dict[str, Any]:
    item = work_item(num, width, height, views, degree=3)
    result: dict[str, Any] = {"name": name, "num_gaussians": num, "size": [width, height], "views": views}
    cases: dict[str, Case] = {}
    for method, render in methods(item, item.weights.cuda()).items():
        if isinstance(render, str):
            result[method] = {"skipped": render}
            continue
        try:
            case = Case(item, render)
            case.step()
            torch.cuda.synchronize()
            cases[method] = case
        except Exception as error:
            result[method] = {"failed": f"{type(error).__name__}: {error}"}
    runs: dict[str, list[dict[str, float]]] = {method: [] for method in cases}
    for _ in range(ROUNDS):  # in turn, so that clocks and neighbours are the same for all
        for method, case in cases.items():
            if time.monotonic() < deadline or not runs[method]:
                start = time.monotonic()
                case.step()
                torch.cuda.synchronize()
                once = time.monotonic() - start
                runs[method].append(case.measure(max(3, min(20, int(0.5 / max(once, 1e-3))))))
    for method, rounds in runs.items():
        result[method] = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
        result[method]["peak_mb"] = cases[method].peak_mb()
    if "deblurgs" in cases:
        result["deblurgs"]["replay_ms"] = cases["deblurgs"].replay_ms(10)
        ours = result["deblurgs"]
        for method in ("gsplat", "gsplat, loop"):
            if "total_ms" in result.get(method, {}):
                result[f"times faster than {method}"] = result[method]["total_ms"] / ours["total_ms"]
                result[f"memory of {method}"] = ours["peak_mb"] / max(result[method]["peak_mb"], 1e-9)
    return result


def run_small() -> None:
    """Every kernel on scenes small enough for a sanitizer."""
    for degree in range(4):
        item = work_item(300, 70, 50, 3, degree=degree)
        render = methods(item, item.weights.cuda())["deblurgs"]
        if isinstance(render, str):
            raise SystemExit(f"bench_gpu: {render}")
        Case(item, render).step()
        torch.cuda.synchronize()
    print("small scenes done")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seconds", type=float, default=150.0, help="no item is begun after this long")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench_gpu: torch finds no NVIDIA GPU here", file=sys.stderr)
        return 1
    if arguments.small:
        run_small()
        return 0
    deadline = time.monotonic() + arguments.seconds
    results = []
    for item in ITEMS:
        if time.monotonic() > deadline:
            results.append({"name": item[0], "skipped": "no time was left"})
            continue
        results.append(measure_item(*item, deadline))
        print(json.dumps(results[-1]), flush=True)
        torch.cuda.empty_cache()
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

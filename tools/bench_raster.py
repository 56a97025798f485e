"""Benchmark of the CPU rasterizer, the loss and a training step, beside vectorised torch and (if given) OpenSplat.

    .venv/bin/python tools/bench_raster.py [--quick] [--json FILE] [--opensplat CHECKOUT]

Every figure is measured in a process of its own, so that peak memory belongs to it alone; "rss" is the process' peak
less what Python and torch hold before the first call. Times are medians in ms, forward + backward with gradients for
every parameter and the poses; trust ratios of one run, not figures of two machines or loads.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
ITEMS = {"W": 1, "W10": 10}  # views


def timed(forward: Callable[[], Any], backward: Callable[[Any], None], repeats: int) -> dict[str, float]:
    """Medians in ms after warm-up: forward, backward, total and the best total."""
    times: list[tuple[float, float]] = []
    for _ in range(repeats + min(repeats, 3)):
        start = time.perf_counter()
        result = forward()
        middle = time.perf_counter()
        backward(result)
        times.append((1e3 * (middle - start), 1e3 * (time.perf_counter() - middle)))
    times = times[-repeats:]
    totals = [a + b for a, b in times]
    return {
        "forward_ms": statistics.median(a for a, _ in times),
        "backward_ms": statistics.median(b for _, b in times),
        "total_ms": statistics.median(totals),
        "best_ms": min(totals),
    }


def measure_raster(views: int, degree: int, isa: str, repeats: int) -> dict[str, Any]:
    """The compiled rasterizer through its autograd function."""
    from bench_work import work_item

    from deblurgs.raster import cpu, native

    library, reason = native.load()
    if library is None:
        return {"skipped": reason}
    if library.deblurgs_cpu_select_isa(isa.encode()) != 0:
        return {"skipped": f"this machine has no {isa}"}
    item = work_item(num_views=views, degree=degree)
    leaves = [t.detach().requires_grad_() for t in item.tensors()]
    backend = cpu.CpuBackend()
    base = peak_mb()

    def forward() -> Any:
        for leaf in leaves:
            leaf.grad = None
        return backend.render_exposure(*leaves, weights=item.weights, camera=item.camera).image

    result: dict[str, Any] = timed(forward, lambda image: image.backward(item.image_gradient), repeats)
    pairs = library.deblurgs_cpu_pairs(cpu._idle[-1])
    seconds = 1e-3 * result["total_ms"]
    return result | {"rss_mb": peak_mb() - base, "pairs": pairs, "gpairs_per_s": 1e-9 * pairs / seconds}


def measure_torch(views: int, degree: int, repeats: int) -> dict[str, Any]:
    """Vectorised torch on the same item."""
    import bench_torch
    from bench_work import work_item

    item = work_item(num_views=views, degree=degree)
    leaves = tuple(t.detach().requires_grad_() for t in item.tensors())
    base = peak_mb()
    result: dict[str, Any] = timed(
        lambda: bench_torch.render_exposure(item, leaves),
        lambda image: image.backward(item.image_gradient),
        repeats,
    )
    return result | {"rss_mb": peak_mb() - base}


def measure_loss(width: int, height: int, kind: str, repeats: int) -> dict[str, Any]:
    """L1 + SSIM with its gradient, ours or torch's."""
    import bench_torch
    import torch

    from deblurgs.train.losses import photometric_loss

    g = torch.Generator().manual_seed(0)
    prediction = torch.rand(height, width, 3, generator=g).requires_grad_()
    observed = torch.rand(height, width, 3, generator=g)
    function = photometric_loss if kind == "native" else bench_torch.photometric_loss

    def forward() -> Any:
        prediction.grad = None  # Adding to it would be timed too.
        return function(prediction, observed)

    return timed(forward, lambda loss: loss.backward(), repeats)


def measure_step(views: int, degree: int, torch_threads: int, repeats: int) -> dict[str, Any]:
    """Render, loss and fused Adam, and the render alone in turn within the same loop."""
    import torch
    from bench_work import work_item

    from deblurgs.raster.cpu import CpuBackend
    from deblurgs.train.losses import photometric_loss

    torch.set_num_threads(torch_threads)
    item = work_item(num_views=views, degree=degree)
    leaves = [t.detach().requires_grad_() for t in item.tensors()]
    optimizer = torch.optim.Adam(leaves, lr=1e-6, fused=True)
    observed = torch.rand(item.camera.height, item.camera.width, 3)
    backend = CpuBackend()
    steps, renders = [], []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        image = backend.render_exposure(*leaves, weights=item.weights, camera=item.camera).image
        image.backward(item.image_gradient)
        renders.append(1e3 * (time.perf_counter() - start))
        optimizer.zero_grad()
        start = time.perf_counter()
        image = backend.render_exposure(*leaves, weights=item.weights, camera=item.camera).image
        photometric_loss(image, observed).backward()
        optimizer.step()
        optimizer.zero_grad()
        steps.append(1e3 * (time.perf_counter() - start))
    step, render = statistics.median(steps[3:]), statistics.median(renders[3:])
    return {"total_ms": step, "render_ms": render, "ratio": step / render}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "raster": measure_raster,
    "torch": measure_torch,
    "loss": measure_loss,
    "step": measure_step,
}


def in_child(measure: str, threads: int, **arguments: Any) -> dict[str, Any]:
    """Run one measurement in a process of its own and add its description to the result."""
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), DEBLURGS_THREADS=str(threads))
    environment.pop("DEBLURGS_CPU_ISA", None)
    command = [sys.executable, __file__, "--child", json.dumps({"measure": measure, **arguments})]
    load = os.getloadavg()[0]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    described = {"measure": measure, "threads": threads, "load": round(load, 2), **arguments}
    if done.returncode != 0:
        return described | {"skipped": done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]}
    return described | json.loads(done.stdout.splitlines()[-1])


def plan(quick: bool) -> list[dict[str, Any]]:
    """What is measured, in order: ours and the yardstick of each figure close together."""
    runs: list[dict[str, Any]] = []
    for name, views in ITEMS.items():
        repeats = 5 if quick else 40 if views == 1 else 12
        for isa in ("avx512", "avx2", "baseline"):
            runs += [
                {
                    "measure": "raster",
                    "threads": threads,
                    "views": views,
                    "degree": 0,
                    "isa": isa,
                    "repeats": repeats,
                }
                for threads in (1, 2)
            ]
        runs.append(
            {
                "measure": "raster",
                "threads": 2,
                "views": views,
                "degree": 3,
                "isa": "avx512",
                "repeats": repeats,
            }
        )
        if not quick or name == "W":
            runs.append(
                {"measure": "torch", "threads": 2, "views": views, "degree": 0, "repeats": 1 if quick else 3}
            )
        runs += [
            {
                "measure": "step",
                "threads": 2,
                "views": views,
                "degree": 3,
                "torch_threads": n,
                "repeats": repeats,
            }
            for n in (1, 2)
        ]
    for width, height in ((256, 192), (400, 300), (640, 480)):
        for kind in ("native", "torch"):
            for threads in (1, 2):
                arguments = {"width": width, "height": height, "kind": kind, "repeats": 5 if quick else 20}
                runs.append({"measure": "loss", "threads": threads, **arguments})
    return runs


def line(r: dict[str, Any]) -> str:
    """One result as a row of text."""
    what = {
        "raster": lambda: f"{r['views']:>2} views  SH {r['degree']}  {r['isa']}",
        "torch": lambda: f"{r['views']:>2} views  SH {r['degree']}",
        "step": lambda: f"{r['views']:>2} views  SH {r['degree']}  torch {r['torch_threads']}",
        "loss": lambda: f"{r['width']}x{r['height']}  {r['kind']}",
    }[r["measure"]]()
    head = f"{r['measure']:7} {what:24} {r['threads']} thr  load {r['load']:4.1f}  "
    if "skipped" in r:
        return head + f"skipped: {r['skipped']}"
    tail = f"{r['total_ms']:9.2f} ms"
    if "forward_ms" in r:
        tail += f" (fwd {r['forward_ms']:.2f}, bwd {r['backward_ms']:.2f}, best {r['best_ms']:.2f})"
    if "gpairs_per_s" in r:
        tail += f"  {r['gpairs_per_s']:.2f} Gpairs/s"
    if "rss_mb" in r:
        tail += f"  rss +{r['rss_mb']:.0f} MB"
    if "ratio" in r:
        tail += f"  = {r['ratio']:.2f} x the render of {r['render_ms']:.2f} ms"
    return head + tail


def ratios(results: list[dict[str, Any]]) -> dict[str, float]:
    """The figures that have a target."""

    def find(measure: str, **wanted: Any) -> dict[str, Any] | None:
        for r in results:
            if r["measure"] == measure and "skipped" not in r and all(r[k] == v for k, v in wanted.items()):
                return r
        return None

    out: dict[str, float] = {}
    for name, views in ITEMS.items():
        best = find("raster", views=views, degree=0, isa="avx512", threads=2)
        narrow = find("raster", views=views, degree=0, isa="avx2", threads=2)
        one = find("raster", views=views, degree=0, isa="avx512", threads=1)
        best = best or narrow or find("raster", views=views, degree=0, isa="baseline", threads=2)
        rival = find("torch", views=views)
        if best and narrow:
            out[f"{name}: AVX2 speed / AVX-512 speed"] = best["total_ms"] / narrow["total_ms"]
        if best and one:
            out[f"{name}: one thread / two threads"] = one["total_ms"] / best["total_ms"]
        if best and rival:
            out[f"{name}: torch time / ours"] = rival["total_ms"] / best["total_ms"]
            out[f"{name}: torch memory / ours"] = rival["rss_mb"] / max(best["rss_mb"], 1e-9)
    for width in (256, 400, 640):
        for threads in (1, 2):
            ours = find("loss", width=width, kind="native", threads=threads)
            rival = find("loss", width=width, kind="torch", threads=threads)
            if ours and rival:
                out[f"loss {width} px, {threads} threads: torch time / ours"] = (
                    rival["total_ms"] / ours["total_ms"]
                )
    return out


def machine() -> dict[str, Any]:
    """Where and on what this was measured."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            text.split(":", 1)[1].strip()
            for text in info.read_text().splitlines()
            if text.startswith("model name")
        ]
        model = names[0] if names else model
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    return {
        "cpu": model, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit, "load": os.getloadavg(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few repeats, no torch on W10")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--opensplat", type=Path, help="a built OpenSplat checkout, or its executable")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        arguments = json.loads(options.child)
        print(json.dumps(MEASURES[arguments.pop("measure")](**arguments)))
        return
    where = machine()
    print("  ".join(f"{k}: {v}" for k, v in where.items()), flush=True)
    results = []
    for run in plan(options.quick):
        results.append(in_child(**run))
        print(line(results[-1]), flush=True)
    summary = ratios(results)
    for name, value in summary.items():
        print(f"{name}: {value:.2f}")
    opensplat = None
    if options.opensplat:
        from bench_opensplat import measure_opensplat

        opensplat = measure_opensplat(options.opensplat)
        print(json.dumps(opensplat, indent=1))
    if options.json:
        temporary = options.json.with_suffix(options.json.suffix + ".part")
        temporary.write_text(
            json.dumps(
                {"machine": where, "results": results, "ratios": summary, "opensplat": opensplat}, indent=1
            )
            + "\n"
        )
        temporary.replace(options.json)


if __name__ == "__main__":
    main()

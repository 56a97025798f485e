"""The parts of tools/gpu_check that need no GPU: it must not lose an hour with one to a slip of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

from gpu_check import Step, plan, run_step, summary  # noqa: E402

ENV = dict(os.environ)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_ends_well() -> None:
    done = subprocess.run(
        [str(ROOT / "tools" / "gpu_check")], capture_output=True, text=True, timeout=120, check=False,
        env={**ENV, "PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "there is no GPU to check" in done.stdout and not done.stderr


def test_every_step_is_a_command_that_exists(tmp_path: Path) -> None:
    steps = plan(tmp_path, tmp_path, tmp_path, has=lambda name: f"/bin/{name}")
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    for wanted in ("compile", "contract", "memcheck", "bench", "train default", "restorer"):
        assert wanted in names
    for step in steps:
        for word in step.command[1:]:
            if word.endswith(".py") and step.why_not is None:
                assert Path(word).is_file(), word
        if step.command[0] == sys.executable:
            assert step.command[1] == "-m" or step.why_not or Path(step.command[1]).is_file()
    assert sum(step.seconds for step in steps[:10]) < 900


def test_what_is_missing_is_left_out_with_its_reason(tmp_path: Path) -> None:
    steps = {step.name: step for step in plan(tmp_path, tmp_path / "none", None, has=lambda name: None)}
    for name, word in (
        ("memcheck", "compute-sanitizer"),
        ("train default", "none"),
        ("device", "nvidia-smi"),
    ):
        reason = steps[name].why_not
        assert reason is not None and word in reason
    assert steps["restorer"].why_not is not None
    assert run_step(steps["memcheck"], 100.0, ENV).status.startswith("skipped: compute-sanitizer")


def test_a_step_that_fails_hangs_or_is_missing_stops_no_other(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    good = f"import json, pathlib; pathlib.Path({str(result)!r}).write_text(json.dumps([1])); print('done')"
    start = time.monotonic()
    outcomes = [
        run_step(Step("good", 60, [sys.executable, "-c", good], None, result), 60, ENV),
        run_step(Step("bad", 60, [sys.executable, "-c", "raise SystemExit(4)"]), 60, ENV),
        run_step(Step("hanging", 1, [sys.executable, "-c", "import time; time.sleep(60)"]), 60, ENV),
        run_step(Step("missing", 60, [str(tmp_path / "no_such_program")]), 60, ENV),
        run_step(Step("late", 60, [sys.executable, "-c", "pass"]), 0.5, ENV),
    ]
    assert time.monotonic() - start < 40
    assert [o.status.split()[0].rstrip(":") for o in outcomes] == [
        "ok", "failed", "stopped", "failed", "skipped",
    ]  # fmt: skip
    assert outcomes[0].data == [1] and "done" in outcomes[0].output
    text = summary(outcomes)
    assert all(o.name in text for o in outcomes) and "exit code 4" in text
    json.dumps([vars(o) for o in outcomes])


def test_the_contract_step_chooses_the_gpus_backends_only() -> None:
    (step,) = (s for s in plan(ROOT, None, None) if s.name == "contract")
    expression = step.command[step.command.index("-k") + 1]
    done = subprocess.run(
        [*step.command[:-1], "--collect-only", "-v", step.command[-1]], cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    chosen = [line for line in done.stdout.splitlines() if "<Function" in line]
    assert chosen and all("cuda]" in c or "cuda-" in c or "gsplat" in c for c in chosen), (
        expression,
        chosen[:5],
    )
    assert not any("emulated" in c or "cpu-" in c for c in chosen)


@pytest.mark.slow
def test_the_training_curve_is_recorded_on_the_cpu_too(shared_data: Path, tmp_path: Path) -> None:
    target = tmp_path / "train.json"
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "bench_gpu_train.py"), str(shared_data / "deblurnerf_blurball"),
         "--preset", "fast", "--side", "150", "--steps", "200", "200", "--device", "cpu",
         "--json", str(target)],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    result = json.loads(target.read_text())
    assert len(result["curve_s_db"]) == 2 and result["curve_s_db"][-1][1] > 12.0
    assert result["columns"]["aligned"]["psnr"] > 12.0

"""What a run says: plain lines, JSON events, silence."""

import importlib
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from deblurgs.cli import main
from deblurgs.cli.run import Process
from deblurgs.command import command_line
from deblurgs.log import Log


def events(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_events_are_one_json_object_per_line_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(events=True)
    log.info("hello")
    log.warn("mind the gap")
    log.warn("mind the gap")
    with log.progress("train", 3) as ticker:
        for i in range(3):
            ticker.update(i + 1, "loss 0.1")
    log.result("out")
    out, err = capsys.readouterr()
    lines = events(out)
    assert err == ""
    assert [line["event"] for line in lines] == ["info", "warning", "progress", "progress", "result"]
    assert lines[2]["stage"] == "train" and lines[3]["done"] == lines[3]["total"] == 3
    assert lines[3]["note"] == "loss 0.1" and lines[3]["eta_s"] == 0.0
    assert all("time_s" in line for line in lines)


def test_quiet_events_keep_warnings_and_results(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(quiet=True, events=True)
    log.info("hello")
    with log.progress("train", 1) as ticker:
        ticker.update(1)
    log.warn("careful")
    log.result("out")
    assert [line["event"] for line in events(capsys.readouterr().out)] == ["warning", "result"]


def test_plain_lines_come_every_tenth_and_tell_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import deblurgs.log

    now = iter(float(10 * i) for i in range(1000))
    monkeypatch.setattr(deblurgs.log.time, "monotonic", lambda: next(now))
    with Log().progress("train", 100) as ticker:
        for i in range(100):
            ticker.update(i + 1)
    lines = capsys.readouterr().err.splitlines()
    assert 10 <= len(lines) <= 12
    assert lines[-1] == "train: 100/100"
    assert " left" in lines[1]


@pytest.mark.parametrize("as_events", [True, False])
def test_what_is_left_follows_the_work_and_not_the_steps(
    as_events: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """50 steps of one second, then 50 of nine."""
    import deblurgs.log

    now = [0.0]
    monkeypatch.setattr(deblurgs.log.time, "monotonic", lambda: now[0])
    with Log(events=as_events).progress("train", 100) as ticker:
        for i in range(100):
            now[0] += 1 if i < 50 else 9
            ticker.update(i + 1, share=now[0] / 500)
    out, err = capsys.readouterr()
    if as_events:
        assert all(line["eta_s"] == 500 - line["elapsed_s"] for line in events(out))  # pyright: ignore[reportOperatorIssue]
    else:
        lines = err.splitlines()
        assert lines[0].endswith("  8:19 left") and lines[-1] == "train: 100/100"


@pytest.mark.parametrize("as_events", [True, False])
def test_work_that_goes_on_counts_only_what_it_did_itself(
    as_events: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import deblurgs.log

    now = [0.0]
    monkeypatch.setattr(deblurgs.log.time, "monotonic", lambda: now[0])
    with Log(events=as_events).progress("train", 100) as ticker:
        for i in range(60, 100):
            now[0] += 10
            ticker.update(i + 1)
    out, err = capsys.readouterr()
    if as_events:
        lines = events(out)
        assert lines[0]["eta_s"] is None and lines[1]["eta_s"] == 380.0
    else:
        assert "left" not in err.splitlines()[0] and err.splitlines()[1].endswith("  4:50 left")


def test_a_terminal_has_one_live_line_with_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    import deblurgs.log

    monkeypatch.setenv("TERM", "xterm")
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(deblurgs.log, "console", terminal)
    with Log().progress("train", 40) as ticker:
        for i in range(40):
            time.sleep(0.01)
            ticker.update(i + 1, f"loss {i}")
    shown = screen.getvalue()
    assert "\x1b[?25l" in shown and "\x1b[?25h" in shown, "the cursor is hidden and comes back"
    line = re.sub(r"\x1b\[[\d?]*[a-zA-Z]", "", shown)
    assert line.count("\n") == 1, "it is written over in place"
    last = line.strip().rpartition("\r")[2]
    assert "40/40" in last and re.search(r"\d:\d\d:\d\d", last) and "loss 39" in last
    with Log(quiet=True).progress("train", 40) as ticker:
        ticker.update(1)
    assert screen.getvalue() == shown


@pytest.mark.parametrize("terminal", [True, False])
def test_long_lines_are_not_broken(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is wrapped cannot be pasted; a terminal folds lines by itself, and copies them whole."""
    import deblurgs.log

    text = f"see  {command_line('resume', '/data/:car:/' + 'a long name/' * 20)}  for [all] of it"
    written = io.StringIO()
    narrow = Console(file=written, force_terminal=terminal, width=80, color_system=None, emoji=False)
    monkeypatch.setattr(deblurgs.log, "console", narrow)
    Log().info(text)
    Log().warn(text)
    assert written.getvalue().splitlines() == [text, f"warning: {text}"]


def test_work_of_unknown_length_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    for log in (Log(), Log(events=True)):
        with log.progress("judging blur", 0) as ticker:
            for i in range(25):
                ticker.update(i + 1)
    out, err = capsys.readouterr()
    assert err.splitlines() == ["judging blur: 1", "judging blur: 10", "judging blur: 20"]
    assert all(line["total"] is None and line["eta_s"] is None for line in events(out))


def test_an_error_is_an_event_too(capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    assert main(["run", str(tmp_path / "nothing"), "--output", str(tmp_path / "out"), "--json"]) == 3
    last = events(capsys.readouterr().out)[-1]
    assert last["event"] == "error" and last["exit_code"] == 3 and "nothing" in str(last["text"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyboardInterrupt(), 130), (MemoryError(), 5), (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 5),
        (RuntimeError("shapes do not match"), 1), (ZeroDivisionError(), 1),
    ],
)  # fmt: skip
def test_every_end_of_a_failed_command_is_an_event(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(self: Process) -> None:
        raise error

    monkeypatch.setattr(Process, "execute", ended)
    assert main(["process", "x", "--json"]) == code
    last = events(capsys.readouterr().out)[-1]
    assert (last["event"], last["exit_code"]) == ("error", code)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "x", "--json", "--train.sede", "3"], ["process", "--json"], ["paint", "x", "--json"],
        ["eval", "x", "--json", "-", "--seedz", "1"], ["eval", "x", "--json=-", "--seedz", "1"],
    ],
)  # fmt: skip
def test_wrong_usage_is_an_event(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(words)
    except SystemExit as stopped:  # by the parser
        code = stopped.code
    assert code == 2
    out, err = capsys.readouterr()
    (only,) = events(out)
    assert (only["event"], only["exit_code"]) == ("error", 2) and err


@pytest.mark.parametrize(
    "words",
    [["doctor", "--json", "--nothing"], ["eval", "x", "--json", "a.json", "--seedz", "1"], ["run", "--jso"]],
)
def test_wrong_usage_without_events_leaves_stdout_alone(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert capsys.readouterr().out == ""


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--json", "--help"])
    assert not stopped.value.code and '"event"' not in capsys.readouterr().out


def test_an_interruption_is_told_once_by_what_was_interrupted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(self: Process) -> None:
        raise KeyboardInterrupt(told)

    monkeypatch.setattr(Process, "execute", ended)
    told = "training was interrupted; resume goes on"
    assert main(["process", "x"]) == 130
    assert capsys.readouterr().err.strip() == told
    told = ""
    assert main(["process", "x"]) == 130
    assert "What is finished is kept" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "render"])
def test_every_stage_ends_with_its_result(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage = importlib.import_module(f"deblurgs.stages.{command}")
    monkeypatch.setattr(stage, command, lambda *_, **__: None)
    (tmp_path / "manifest.json").write_text('{"format": 1, "stages": {}, "command": [], "versions": {}}')
    assert main([command, str(tmp_path), "--json"]) == 0
    last = events(capsys.readouterr().out)[-1]
    assert (last["event"], last["text"]) == ("result", str(tmp_path))


def test_a_reader_that_goes_away_is_no_success(tmp_path: Path) -> None:
    """`deblurgs run --json | head` ends the work; exit code 0 would claim that it was done."""
    code = (
        "import sys\n"
        "from deblurgs.cli import main\n"
        "from deblurgs.cli.run import Process\n"
        "from deblurgs.log import Log\n"
        "def work(self):\n"
        "    for i in range(20000): Log(events=True).info('x' * 100)\n"
        "Process.execute = work\n"
        "sys.exit(main(['process', 'x', '--json']))\n"
    )
    (tmp_path / "program.py").write_text(code)
    command = f"{sys.executable!r} program.py | head -n 1; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr

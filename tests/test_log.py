"""What a run says: plain lines, JSON events, silence."""

import json

import pytest

from deblurgs.cli import main
from deblurgs.cli.run import Process
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


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (MemoryError, 5)])
def test_every_end_of_a_failed_command_is_an_event(
    error: type[BaseException], code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(self: Process) -> None:
        raise error

    monkeypatch.setattr(Process, "execute", ended)
    assert main(["process", "x", "--json"]) == code
    last = events(capsys.readouterr().out)[-1]
    assert (last["event"], last["exit_code"]) == ("error", code)

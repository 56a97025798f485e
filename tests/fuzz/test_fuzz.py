"""A bounded number of damaged files: read, or refused in words. tools/fuzz.py goes on for as long as one likes."""

import shutil
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, Target, one_input
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    target = TARGETS[name]
    seeds_folder, work = tmp_path / "seeds", tmp_path / "work"
    seeds_folder.mkdir()
    seeds = target.seeds(seeds_folder)
    for seed in seeds:
        work.mkdir()
        target.read(seed, work)  # the good file is read, else nothing is tested
        shutil.rmtree(work)

    @settings(
        max_examples=target.examples, deadline=None, derandomize=True, database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )  # fmt: skip
    @given(st.integers(0, 2**32))
    def damage(number: int) -> None:
        work.mkdir(exist_ok=True)
        one_input(target, seeds, number, work)
        shutil.rmtree(work)

    damage()


def test_a_reader_that_writes_elsewhere_is_a_fault(tmp_path: Path) -> None:
    def astray(data: bytes, folder: Path) -> None:
        (folder / ".." / "x").write_bytes(data)

    (tmp_path / "work").mkdir()
    with pytest.raises(AssertionError, match="outside"):
        one_input(Target(lambda _: [], astray), [b"seed"], 0, tmp_path / "work")

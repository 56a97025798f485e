"""Fixtures of the capture tests. Inputs are made on the fly, nothing binary is committed."""

import pytest

from deblurgs.log import Log


@pytest.fixture
def log() -> Log:
    return Log(quiet=True)

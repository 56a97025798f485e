"""Fixtures for all rooms: shared captures, no network, seeded randomness."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parent.parent
_LOOPBACK_NAMES = {"", "localhost", "::1"}


def pytest_configure(config: pytest.Config) -> None:
    # A shell's background job starts with Ctrl-C ignored, and children inherit that; tests of Ctrl-C need the default.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # A checkout without compiled kernels must pass its tests too; it is only slower.
    config.addinivalue_line("filterwarnings", "ignore:Using the slow reference rasterizer:RuntimeWarning")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared captures: $DEBLURGS_DATA, else ../shared/data beside the repository."""
    path = Path(os.environ.get("DEBLURGS_DATA") or ROOT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no shared captures at {path}; set DEBLURGS_DATA to their folder")
    return path


@pytest.fixture
def generator() -> "torch.Generator":
    """A CPU generator with a fixed seed, fresh for every test."""
    import torch

    return torch.Generator().manual_seed(20240411)


def _is_loopback(address: Any) -> bool:
    """Whether a socket address stays on this machine. Unix sockets have a path, not a tuple, as address."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    return host in _LOOPBACK_NAMES or host.startswith("127.")


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Tests never leave the machine. `pytest.fail` is not an `Exception`, so no handler can swallow it."""
    patch = pytest.MonkeyPatch()

    def guard(owner: Any, name: str, position: int) -> None:
        original = getattr(owner, name)

        def checked(*args: Any, **kwargs: Any) -> Any:
            address = args[position]
            if name == "getaddrinfo":
                address = (address.decode() if isinstance(address, bytes) else address or "",)
            if not _is_loopback(address):
                pytest.fail(f"a test tried to reach the network: socket {name} {address}")
            return original(*args, **kwargs)

        patch.setattr(owner, name, checked)

    guard(socket.socket, "connect", 1)
    guard(socket.socket, "connect_ex", 1)
    guard(socket.socket, "sendto", -1)
    guard(socket, "getaddrinfo", 0)
    yield
    patch.undo()

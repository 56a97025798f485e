"""Who may talk to the viewer, tried with raw requests and real WebSocket handshakes."""

import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import websockets.asyncio.server
from viser import _messages

from deblurgs.errors import UsageError
from deblurgs.view.guard import MAX_CLIENTS, Guard, start_server

TOKEN = "a-secret-of-the-test"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = start_server("127.0.0.1", 0, Guard())
    yield server.get_port()
    server.stop()


@pytest.fixture(scope="module")
def token_port() -> Iterator[int]:
    server = start_server("127.0.0.1", 0, Guard(TOKEN))
    yield server.get_port()
    server.stop()


def status(
    port: int, path: str = "/", *, host: str | None = "", **headers: str
) -> tuple[int, dict[str, str]]:
    """Status and headers of a GET; host None: a request without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("GET", path, skip_host=True)
    if host is not None:
        connection.putheader("Host", host or f"127.0.0.1:{port}")
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, dict(response.getheaders())


def handshake(port: int, *, host: str = "", origin: str | None = None, cookie: str | None = None) -> int:
    """Status of a WebSocket handshake; 101 = let in."""
    with shaken(port, host=host, origin=origin, cookie=cookie) as connected:
        return int(connected.recv(4096).split(b" ")[1])


def shaken(
    port: int, *, host: str = "", origin: str | None = None, cookie: str | None = None
) -> socket.socket:
    """A socket on which a handshake was asked for."""
    extra = [f"{n}: {v}" for n, v in (("Origin", origin), ("Cookie", cookie)) if v]
    lines = [
        "GET / HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: viser-v1.1.1", *extra, "", "",
    ]  # fmt: skip
    connected = socket.create_connection(("127.0.0.1", port), timeout=10)
    connected.sendall("\r\n".join(lines).encode())
    return connected


def test_it_listens_on_loopback_only(port: int) -> None:
    table = Path("/proc/net/tcp")
    if not table.exists():
        pytest.skip("no /proc/net/tcp on this system to read sockets from")
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
    assert listening == [f"0100007F:{port:04X}"]


def test_other_addresses_need_a_token() -> None:
    with pytest.raises(UsageError, match="--allow-remote"):
        start_server("0.0.0.0", 0, Guard())


def test_own_page_is_served_and_may_not_be_framed(port: int) -> None:
    code, headers = status(port)
    assert code == 200
    assert headers["X-Frame-Options"] == "DENY"
    assert status(port, host=f"localhost:{port}")[0] == 200
    assert status(port, Origin=f"http://127.0.0.1:{port}")[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", None])
def test_foreign_and_missing_hosts_are_refused(port: int, host: str | None) -> None:
    """A foreign name that is made to point here (DNS rebinding) comes with its own Host."""
    expected = 200 if host == "" else 403
    assert status(port, host=host)[0] == expected
    if host:
        assert handshake(port, host=host) == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://", "http://localhost"]
)
def test_foreign_origins_are_refused(port: int, origin: str) -> None:
    assert status(port, Origin=origin)[0] == 403
    assert handshake(port, origin=origin) == 403


def test_own_socket_and_scripts_are_let_in(port: int) -> None:
    assert handshake(port, origin=f"http://127.0.0.1:{port}") == 101
    assert handshake(port) == 101


@pytest.mark.parametrize(
    "path", ["/../guard.py", "/%2e%2e/%2e%2e/__init__.py", "/..\\..\\__init__.py", "/nothing"]
)
def test_no_way_out_of_the_served_folder(port: int, path: str) -> None:
    assert status(port, path)[0] == 404


def test_a_token_opens_the_door_once_and_for_all(token_port: int) -> None:
    assert status(token_port)[0] == 403
    assert status(token_port, "/?t=wrong")[0] == 403
    assert handshake(token_port) == 403
    code, headers = status(token_port, f"/?t={TOKEN}")
    assert (code, headers["Location"]) == (302, "/")
    assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
    cookie = headers["Set-Cookie"].split(";")[0]
    assert status(token_port, Cookie=cookie)[0] == 200
    assert handshake(token_port, cookie=cookie) == 101
    assert handshake(token_port, cookie=cookie, origin="http://evil.example") == 403
    assert status(token_port, Cookie="deblurgs_view=wrong")[0] == 403
    assert status(token_port, host="some.machine:80", Cookie=cookie)[0] == 200


def test_the_redirection_stays_here(token_port: int) -> None:
    assert status(token_port, f"//evil.example/?t={TOKEN}")[1].get("Location", "/").startswith("//") is False


def test_the_share_tunnel_is_gone() -> None:
    server = start_server("127.0.0.1", 0, Guard())
    try:
        handlers = server._websock_server._incoming_handlers
        assert _messages.ShareUrlRequest not in handlers
        assert _messages.ShareUrlDisconnect not in handlers
    finally:
        server.stop()


def test_a_server_that_goes_round_the_guard_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a future viser might do: hold its own reference to the function that the guard replaces."""
    from viser.infra import _infra

    class Copy:
        serve = staticmethod(websockets.asyncio.server.serve)
        ServerConnection = websockets.asyncio.server.ServerConnection

    library = SimpleNamespace(
        asyncio=SimpleNamespace(server=Copy),
        exceptions=websockets.exceptions,
        datastructures=websockets.datastructures,
    )
    monkeypatch.setattr(_infra, "websockets", library)
    with pytest.raises(RuntimeError, match="guard"):
        start_server("127.0.0.1", 0, Guard())


def test_a_busy_port_means_the_next_one(port: int) -> None:
    second = start_server("127.0.0.1", port, Guard())
    try:
        assert second.get_port() != port
        assert status(second.get_port())[0] == 200
    finally:
        second.stop()


def test_an_address_of_another_machine_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match=r"cannot listen on 203\.0\.113\.7"):
        start_server("203.0.113.7", 0, Guard("t"))


def test_no_more_browsers_than_the_limit() -> None:
    server = start_server("127.0.0.1", 0, Guard())
    sockets = []
    try:
        for _ in range(MAX_CLIENTS):
            sockets.append(shaken(server.get_port()))
            assert sockets[-1].recv(4096).split(b" ")[1] == b"101"
        assert handshake(server.get_port()) == 503
        sockets.pop().close()  # who leaves makes room
        deadline = time.monotonic() + 10
        while (answer := handshake(server.get_port())) == 503 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert answer == 101
    finally:
        for one in sockets:
            one.close()
        server.stop()

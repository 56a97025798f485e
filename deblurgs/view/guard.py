"""Who may talk to the viewer's server: this machine's own pages, or holders of a token.

viser answers everybody by default. A web page from elsewhere could open a WebSocket to it (browsers do not stop that),
and a host name that is made to point to this machine would even count as the same origin. So every request, HTTP and
WebSocket handshake alike, is looked at before viser sees it: its Host must be a name of this machine, its Origin, where
there is one, must be that Host.
"""

import hmac
import http
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import rich
import viser
import websockets.asyncio.server
from viser import _messages
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from deblurgs.errors import UsageError

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
MAX_CLIENTS = 8
_COOKIE = "deblurgs_view"
_starting = threading.Lock()


@dataclass(frozen=True)
class Guard:
    """The rules. token None: only this machine, no password; else every visitor must know the token."""

    token: str | None = None

    def judge(self, request: Request, num_clients: int) -> Response | None:
        """The refusal or redirection with which a request is answered; None lets it pass."""
        hosts = request.headers.get_all("Host")
        if len(hosts) != 1 or (self.token is None and _host_name(hosts[0]) not in LOOPBACK_HOSTS):
            return _refusal(
                http.HTTPStatus.FORBIDDEN, "This viewer answers to this machine's own names only."
            )
        origins = request.headers.get_all("Origin")
        if origins and (len(origins) > 1 or not _same_origin(origins[0], hosts[0])):
            return _refusal(http.HTTPStatus.FORBIDDEN, "Pages from elsewhere may not use this viewer.")
        if self.token is not None:
            address = urlsplit(request.path)
            given = parse_qs(address.query).get("t", [""])[0]
            if given and _equal(given, self.token):
                return _redirection(address.path, self.token)
            if not _equal(_cookie(request), self.token):
                return _refusal(
                    http.HTTPStatus.FORBIDDEN, "Open the address with ?t=... that the viewer printed."
                )
        if request.headers.get("Upgrade", "").lower() == "websocket" and num_clients >= MAX_CLIENTS:
            return _refusal(
                http.HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_CLIENTS} browsers are connected already."
            )
        return None


def start_server(host: str, port: int, guard: Guard) -> viser.ViserServer:
    """A viser server behind the guard, without share tunnel. Port 0 or a busy one: the next free one.

    Raises UsageError when nothing can listen on `host`; RuntimeError when viser went round the guard.
    """
    if guard.token is None and host not in LOOPBACK_HOSTS:
        raise UsageError(f"the viewer listens on this machine only; --host {host} needs --allow-remote")
    rich.reconfigure(quiet=True)  # viser prints its banner to stdout, where results go
    original, guarded = websockets.asyncio.server.serve, [0]
    server_of: list[viser.ViserServer] = []

    def num_clients() -> int:
        return len(server_of[0]._websock_server._live_connections) if server_of else 0

    def serve(*args: Any, process_request: Callable[..., Any] | None = None, **kwargs: Any) -> Any:
        guarded[0] += 1
        checked = partial(_process, guard, num_clients, process_request)
        return original(*args, process_request=checked, **kwargs)

    with _starting:
        _require_bindable(host)
        websockets.asyncio.server.serve = serve
        try:
            server = viser.ViserServer(host=host, port=port, label="deblurgs", verbose=False)
        finally:
            websockets.asyncio.server.serve = original
    if not guarded[0]:
        server.stop()
        raise RuntimeError("this version of viser starts its server in a way that the guard does not know")
    server_of.append(server)
    # A public address for the scene is nobody's wish here; the button goes and so does what it asks for.
    for message in (_messages.ShareUrlRequest, _messages.ShareUrlDisconnect):
        server._websock_server.unregister_handler(message)
    server.gui.configure_theme(control_layout="collapsible", show_share_button=False, show_logo=False)
    return server


def _process(
    guard: Guard,
    num_clients: Callable[[], int],
    inner: Callable[..., Response | None] | None,
    connection: websockets.asyncio.server.ServerConnection,
    request: Request,
) -> Response | None:
    """`process_request` of the WebSocket library: refuse, or let viser answer."""
    refused = guard.judge(request, num_clients())
    if refused is not None:
        return refused
    response = inner(connection, request) if inner is not None else None
    if response is not None:
        response.headers["X-Frame-Options"] = "DENY"
        response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _require_bindable(host: str) -> None:
    """viser tries a thousand ports when an address cannot be bound at all, and then waits for ever."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        raise UsageError(f"the viewer cannot listen on {host}: {error}. Leave --host out.") from error


def _host_name(host: str) -> str:
    """`Host` without the port: "[::1]:8080" -> "::1"."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
    return name.strip("[]").lower()


def _same_origin(origin: str, host: str) -> bool:
    address = urlsplit(origin)
    return address.scheme in ("http", "https") and address.netloc.lower() == host.lower()


def _cookie(request: Request) -> str:
    for line in request.headers.get_all("Cookie"):
        for part in line.split(";"):
            name, _, value = part.strip().partition("=")
            if name == _COOKIE:
                return value
    return ""


def _equal(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def _refusal(status: http.HTTPStatus, text: str) -> Response:
    body = (text + "\n").encode()
    headers = Headers([("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return Response(status, status.phrase, headers, body)


def _redirection(path: str, token: str) -> Response:
    """To the same page without the token in its address, which would stay in the history."""
    # A path that begins with two slashes would lead to another host.
    headers = Headers([
        ("Location", "/" + path.lstrip("/\\")), ("Content-Length", "0"), ("Referrer-Policy", "no-referrer"),
        ("Set-Cookie", f"{_COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"),
    ])  # fmt: skip
    return Response(http.HTTPStatus.FOUND, "Found", headers, b"")

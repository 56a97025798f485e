"""The network guard itself: it must stop what leaves the machine and let loopback pass."""

import socket

import pytest


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_connections_to_other_machines_fail(method: str) -> None:
    with socket.socket() as s, pytest.raises(pytest.fail.Exception, match="network"):
        getattr(s, method)(("192.0.2.1", 9))  # TEST-NET-1, never routed


def test_datagrams_and_name_lookups_fail() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as s, pytest.raises(pytest.fail.Exception, match="sendto"):
        s.sendto(b"x", ("192.0.2.1", 9))
    with pytest.raises(pytest.fail.Exception, match="getaddrinfo"):
        socket.getaddrinfo("example.invalid", 80)


def test_loopback_passes() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname(), timeout=5) as client,
    ):
        accepted, _ = server.accept()
        with accepted:
            client.sendall(b"hello")
            assert accepted.recv(5) == b"hello"

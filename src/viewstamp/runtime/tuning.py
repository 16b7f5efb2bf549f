"""Options of TCP sockets."""

import socket
from typing import Final

USER_TIMEOUT_MS: Final = 10_000
"""Unacknowledged data older than this means that the other machine is gone (Linux TCP_USER_TIMEOUT)."""


def tune_socket(sock: socket.socket | None) -> None:
    """No delay for small writes, and an end to connections whose other machine is gone."""
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)

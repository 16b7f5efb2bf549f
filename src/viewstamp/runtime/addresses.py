"""Hosts and ports as text and back. A port alone means this machine.

Ports of loopback for clusters that need some: of one process, of tests, of benchmarks.
"""

import os
import socket
from ipaddress import ip_address
from itertools import count, islice
from typing import Final, TypeAlias

from viewstamp.core.errors import ConfigurationError

Address: TypeAlias = tuple[str, int]
"""(host, port)."""

LOOPBACK: Final = "127.0.0.1"
PORT_MAX: Final = 65535
_HOST_LENGTH_MAX: Final = 255
_PORT_DIGITS_MAX: Final = 20
"""More are not even read: Python refuses to make a number of some thousands."""


def parse_address(text: str) -> Address:
    """Return the address written as `HOST:PORT`, `[IPV6]:PORT`, `:PORT` or `PORT`.

    Raises:
        ConfigurationError: it is none of these.
    """
    host, _, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigurationError(f"address {text!r}: write an IPv6 host in brackets, like [::1]:7000")
    if not port.isascii() or not port.isdigit() or len(port) > _PORT_DIGITS_MAX:
        raise ConfigurationError(f"address {text[:80]!r}: write it as HOST:PORT")
    return check_address(host or LOOPBACK, int(port))


def check_address(host: str, port: int) -> Address:
    """Return the address in its one form, so that equal addresses compare equal.

    Raises:
        ConfigurationError: the port is out of range, or the host cannot be one.
    """
    if not 1 <= port <= PORT_MAX:
        raise ConfigurationError(f"port {port} of {host!r} is out of range: choose one of 1 to {PORT_MAX}")
    if not host or len(host) > _HOST_LENGTH_MAX or not all("!" <= letter <= "~" for letter in host):
        raise ConfigurationError(f"host {host[:40]!r} cannot be a host: give a name or an IP address")
    if host.startswith("["):
        raise ConfigurationError(f"host {host!r}: write it without brackets, the port is apart")
    try:
        return str(ip_address(host)), port
    except ValueError:
        return host.lower(), port


def format_address(address: Address) -> str:
    """Return the text that `parse_address` reads."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_PORTS: Final = range(10_000, 32_768)
"""Below those that the kernel gives to outgoing connections, one of which could otherwise take the port of a
server while it is down."""
_STRIDE: Final = 1_543
"""More than a long test run takes, so that processes that began one after the other do not meet."""
_walk: Final = count(os.getpid() * _STRIDE)
"""Each process begins elsewhere, so that two of them seldom choose the same port before one listens there."""


def free_ports(wanted: int) -> list[int]:
    """Return ports of loopback that nobody listened on a moment ago.

    Raises:
        OSError: fewer are free.
    """
    bound: list[socket.socket] = []
    try:
        for place in islice(_walk, len(_PORTS)):
            if len(bound) >= wanted:
                break
            candidate = socket.socket()
            try:
                candidate.bind((LOOPBACK, _PORTS[place % len(_PORTS)]))
            except OSError:
                candidate.close()
            else:
                bound.append(candidate)
        if len(bound) < wanted:
            raise OSError(f"{wanted} free ports of {LOOPBACK} were wanted, and there are {len(bound)}")
        return [sock.getsockname()[1] for sock in bound]
    finally:
        for sock in bound:
            sock.close()

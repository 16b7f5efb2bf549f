"""Ports of loopback for clusters that need some: of one process, of tests, of benchmarks."""

import os
import socket
from itertools import count, islice
from typing import Final

from viewstamp.runtime.addresses import LOOPBACK

_PORTS: Final = range(10_000, 32_768)
"""Below those that the kernel gives to whoever connects: a server that is down would find its port taken by
somebody's outgoing connection when it comes back."""
_STRIDE: Final = 64
_walk: Final = count(os.getpid() * _STRIDE)
"""Each process begins elsewhere, so that two of them seldom choose the same port before one listens there."""


def free_ports(wanted: int) -> list[int]:
    """Return ports of loopback that nobody listened on a moment ago.

    Raises:
        OSError: there are not so many.
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

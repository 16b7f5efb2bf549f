"""Ports that can be listened on."""

import socket
from itertools import count
from pathlib import Path

import pytest

from viewstamp.runtime import addresses as ports
from viewstamp.runtime.addresses import LOOPBACK, free_ports


def test_ports_differ_and_can_be_listened_on() -> None:
    found = free_ports(5)
    assert len(set(found)) == 5
    for port in found:
        with socket.create_server((LOOPBACK, port)):
            pass


def test_a_port_is_passed_over_when_somebody_listens_there(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setattr(ports, "_walk", count(port - ports._PORTS.start))
    with socket.create_server((LOOPBACK, port)):
        assert port not in free_ports(3)
    monkeypatch.setattr(ports, "_walk", count(port - ports._PORTS.start))
    assert port in free_ports(3)


def test_ports_are_not_those_of_outgoing_connections() -> None:
    lowest, _ = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="utf-8").split()
    assert ports._PORTS.stop <= max(int(lowest), 32_768)


def test_it_is_said_when_there_are_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setattr(ports, "_PORTS", range(port, port + 1))
    with pytest.raises(OSError, match=r"2 free ports of .* were wanted, and there are 1"):
        free_ports(2)

"""A network of this machine's own that loses packets and is cut: the kernel's TCP over cables that we hold.

Each server stands in a network namespace of its own, with one TUN device. What it sends comes out of the
device as IP packets, which one thread here passes on, or does not. So retransmissions, back-offs and
time-outs are the kernel's, which no proxy of connections can show.
"""

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Final, Self, TypeVar

from viewstamp.core.ids import NodeId
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.testkit.processes import SETTINGS, ServerProcess

T = TypeVar("T")
_NEWNET: Final = 0x40000000
_SET_INTERFACE: Final = 0x400454CA
_TUN_WITHOUT_HEADER: Final = 0x0001 | 0x1000
_PACKET_BYTES: Final = 65_536
_PORT: Final = 7_000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class NoNamespaces(OSError):
    """This machine does not let us make network namespaces or TUN devices."""


class LossyNetwork:
    """Places numbered from 1, each with the address of its number. Use as a context manager."""

    def __init__(self, places: int, *, loss: float, seed: int) -> None:
        """Make the places; `loss` is the part of the packets that is lost, each way.

        Raises:
            NoNamespaces: they cannot be made here.
        """
        self._rng = Random(seed)  # noqa: S311  a test's choice of packets
        self._loss = loss
        self._sides: dict[int, int] = {}
        """Which side of the cut a place is on; one without a side reaches all."""
        self._devices: dict[int, int] = {}
        self._namespaces: dict[int, int] = {}
        self._stop_read, self._stop_write = os.pipe()
        self._stopped = threading.Event()
        try:
            for place in range(1, places + 1):
                _in_thread(self._make, place)
        except OSError as error:
            self._give_back()
            raise NoNamespaces(str(error)) from error
        self._carrier = threading.Thread(target=self._carry, daemon=True)
        self._carrier.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        os.write(self._stop_write, b".")
        self._carrier.join()
        self._give_back()

    def address(self, place: int) -> str:
        """Return the host of a place."""
        return f"10.77.0.{place}"

    def split(self, sides: Iterable[Iterable[int]]) -> None:
        """Cut the network between these sides; places in none of them reach all."""
        self._sides = {place: number for number, side in enumerate(sides) for place in side}

    def heal(self) -> None:
        """Cut nothing. Packets go on being lost."""
        self._sides = {}

    def stay(self, seconds: float) -> None:
        """Leave the network as it is for this long."""
        self._stopped.wait(seconds)

    def at(self, place: int, action: Callable[[], T]) -> T:
        """Run something in a thread at this place: the sockets and processes that it makes are there."""

        def moved() -> T:
            _check(_LIBC.setns(self._namespaces[place], _NEWNET))
            return action()

        return _in_thread(moved)

    def _make(self, place: int) -> None:
        """Leave this thread's namespace for a new one, and keep that one with its device."""
        _check(_LIBC.unshare(_NEWNET))
        self._namespaces[place] = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        device = self._devices[place] = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, _SET_INTERFACE, struct.pack("16sH22x", b"cable", _TUN_WITHOUT_HEADER))
        for words in ("link set lo up", f"addr add {self.address(place)}/24 dev cable", "link set cable up"):
            try:
                subprocess.run(["ip", *words.split()], check=True, capture_output=True)  # noqa: S603, S607
            except subprocess.CalledProcessError as error:
                raise OSError(error.stderr.decode()) from error

    def _carry(self) -> None:
        places = {device: place for place, device in self._devices.items()}
        while True:
            ready, _, _ = select.select([self._stop_read, *places], [], [])
            if self._stop_read in ready:
                return
            for device in ready:
                self._pass_on(places[device], os.read(device, _PACKET_BYTES))

    def _pass_on(self, source: int, packet: bytes) -> None:
        to = packet[19]
        if packet[0] >> 4 != 4 or to not in self._devices or self._rng.random() < self._loss:
            return
        sides = self._sides
        if source in sides and to in sides and sides[source] != sides[to]:
            return
        os.write(self._devices[to], packet)

    def _give_back(self) -> None:
        for descriptor in (*self._devices.values(), *self._namespaces.values()):
            os.close(descriptor)
        os.close(self._stop_read)
        os.close(self._stop_write)


class LossyGroup:
    """Server processes on such a network, node N at place N. One more place is for clients.

    Use as a context manager: afterwards every process has ended, and the network is gone.
    """

    def __init__(self, folder: Path, size: int, *, protocol: str, loss: float, seed: int = 1) -> None:
        """Make the network and the files; `start` starts servers.

        Raises:
            NoNamespaces: the network cannot be made here.
        """
        self.network = LossyNetwork(size + 1, loss=loss, seed=seed)
        members = tuple(Member(node, self.network.address(node), _PORT) for node in range(1, size + 1))
        self.cluster = ClusterConfig(cluster_id="lossy", members=members, protocol=protocol)
        self.cluster.save(folder / "cluster.toml")
        settings = folder / "settings.toml"
        settings.write_text(SETTINGS, encoding="utf-8")
        # Nobody else reaches these addresses: they exist in the namespaces only.
        arguments = ["--insecure", "--verbose", "--settings", str(settings)]
        self.servers = {node: ServerProcess(folder, node, arguments) for node in self.cluster.node_ids}

    def __enter__(self) -> Self:
        self.network.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers.values():
            server.close()
        self.network.__exit__()

    def start(self, *nodes: NodeId) -> None:
        """Start these servers, or all, and return once they listen."""
        for node in nodes or self.servers:
            self.network.at(node, self.servers[node].start)
        for node in nodes or self.servers:
            self.servers[node].wait_ready()

    def as_client(self, action: Callable[[], T]) -> T:
        """Run something where every server can be reached, whatever is cut between them."""
        return self.network.at(len(self.servers) + 1, action)


def _in_thread(action: Callable[..., T], *arguments: object) -> T:
    """Return what this returns in a thread of its own, which may change its namespace."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action(*arguments))
        except BaseException as error:  # noqa: BLE001  raised again below
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

"""ZooKeeper as Debian installs it, with the settings of its own sample file; clients talk to the leader."""

import socket
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

from benchmarks.peers.base import (
    BUILD,
    HOST,
    LOADS,
    PeerFailed,
    Process,
    Running,
    missing_packages,
    run,
    wait_for_port,
)
from viewstamp.runtime.addresses import free_ports

_JARS = Path("/usr/share/java")
_HEAP = "-Xmx1g"
_LEADS_WITHIN_S = 60.0


def class_path() -> str:
    """Return every library that Debian has installed, and what was compiled here."""
    return ":".join([str(BUILD), *sorted(str(jar) for jar in _JARS.glob("*.jar"))])


def leads(port: int) -> bool:
    """Ask a server, by its four-letter word, whether it leads."""
    with socket.create_connection((HOST, port), timeout=2.0) as server:
        server.sendall(b"srvr")
        answer = b""
        while piece := server.recv(4096):
            answer += piece
    return b"Mode: leader" in answer


def wait_for_leader(ports: list[int]) -> int:
    """Return the port of the server that leads."""
    deadline = monotonic() + _LEADS_WITHIN_S
    while monotonic() < deadline:
        for port in ports:
            if leads(port):
                return port
    raise PeerFailed(f"no server leads after {_LEADS_WITHIN_S:g} s")


class ZooKeeper:
    """Three servers. Every write is synced by a majority; a linearizable read is a sync and a read."""

    name = "zookeeper"
    workloads: tuple[str, ...] = ("writes", "reads", "mixed")
    keeps_running = True
    connects = True

    def missing(self) -> list[str]:
        return missing_packages(
            {
                f"{_JARS}/zookeeper.jar": "zookeeper",
                "java": "default-jdk-headless",
                "javac": "default-jdk-headless",
            }
        )

    def prepare(self) -> None:
        BUILD.mkdir(parents=True, exist_ok=True)
        run(["javac", "-cp", class_path(), "-d", BUILD, LOADS / "ZooKeeperLoad.java"])

    def version(self) -> str:
        jars = _JARS.glob("zookeeper-[0-9]*.jar")
        return next(jar.stem.removeprefix("zookeeper-") for jar in jars)

    def start(self, stack: ExitStack, folder: Path) -> Running:
        ports = free_ports(9)
        clients, quorum, election = ports[:3], ports[3:6], ports[6:]
        members = [
            f"server.{number}={HOST}:{quorum[number - 1]}:{election[number - 1]}" for number in (1, 2, 3)
        ]
        servers = [
            self._start_server(stack, folder, number, clients[number - 1], members) for number in (1, 2, 3)
        ]
        for port in clients:
            wait_for_port(port)
        command = ["java", _HEAP, "-cp", class_path(), "ZooKeeperLoad", f"{HOST}:{wait_for_leader(clients)}"]
        load = Process(stack, command, folder / "load.log", talks=True)
        return Running([server.pid for server in servers], [load.pid], load.ask)

    @staticmethod
    def _start_server(stack: ExitStack, folder: Path, number: int, port: int, members: list[str]) -> Process:
        data = folder / f"data{number}"
        data.mkdir()
        (data / "myid").write_text(str(number))
        lines = ["tickTime=2000", "initLimit=10", "syncLimit=5", f"dataDir={data}", f"clientPort={port}"]
        lines += [f"clientPortAddress={HOST}", "admin.enableServer=false", *members]
        settings = folder / f"server{number}.cfg"
        settings.write_text("\n".join(lines) + "\n")
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        command = ["java", _HEAP, "-cp", class_path(), main, settings]
        return Process(stack, command, folder / f"server{number}.log")

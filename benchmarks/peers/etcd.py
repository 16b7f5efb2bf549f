"""etcd as Debian installs it, with default settings; clients talk to the leader."""

import os
from contextlib import ExitStack
from pathlib import Path

from benchmarks.peers.base import BUILD, HOST, LOADS, Process, Running, missing_packages, run, wait_for_port
from viewstamp.runtime.addresses import free_ports

_GO_PATH = "/usr/share/gocode"


class Etcd:
    """Three members. Every write is synced by a majority; reads are linearizable unless told otherwise."""

    name = "etcd"
    workloads: tuple[str, ...] = ("writes", "reads", "mixed")
    keeps_running = False
    connects = True

    def __init__(self) -> None:
        self._load = BUILD / "etcd_load"

    def missing(self) -> list[str]:
        needed = {
            "etcd": "etcd-server",
            "go": "golang-go",
            f"{_GO_PATH}/src/go.etcd.io/etcd/clientv3": "golang-etcd-server-dev",
        }
        return missing_packages(needed)

    def prepare(self) -> None:
        BUILD.mkdir(parents=True, exist_ok=True)
        settings = {"GO111MODULE": "off", "GOPATH": _GO_PATH, "GOCACHE": str(BUILD / "go-cache")}
        run(["go", "build", "-o", self._load, LOADS / "etcd_load.go"], {**os.environ, **settings})

    def version(self) -> str:
        return run(["etcd", "--version"]).splitlines()[0].removeprefix("etcd Version: ")

    def start(self, stack: ExitStack, folder: Path) -> Running:
        names = ("n1", "n2", "n3")
        ports = free_ports(6)
        clients = [f"http://{HOST}:{port}" for port in ports[:3]]
        peers = [f"http://{HOST}:{port}" for port in ports[3:]]
        members = ",".join(f"{name}={peer}" for name, peer in zip(names, peers, strict=True))
        servers = []
        for name, client, peer in zip(names, clients, peers, strict=True):
            command = ["etcd", "--name", name, "--data-dir", folder / name, "--logger", "zap"]
            command += [
                "--log-level",
                "error",
                "--listen-client-urls",
                client,
                "--advertise-client-urls",
                client,
            ]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            command += ["--initial-cluster", members, "--initial-cluster-state", "new"]
            servers.append(Process(stack, command, folder / f"{name}.log"))
        for port in ports[:3]:
            wait_for_port(port)
        load = Process(stack, [self._load, ",".join(clients)], folder / "load.log", talks=True)
        return Running([server.pid for server in servers], [load.pid], load.ask)

"""The bare pipe: no peer, but what Python and this machine could do at best."""

from contextlib import ExitStack
from pathlib import Path

from benchmarks.peers.base import Process, Running, python
from viewstamp.runtime.addresses import free_ports


class Pipe:
    """A leader and two followers without a protocol; see `benchmarks.loads.pipe_server`."""

    name = "pipe"
    workloads: tuple[str, ...] = ("writes",)
    keeps_running = False
    connects = True

    def missing(self) -> list[str]:
        return []

    def prepare(self) -> None:
        """Nothing is compiled."""

    def version(self) -> str:
        return "-"

    def start(self, stack: ExitStack, folder: Path) -> Running:
        leader, *followers = free_ports(3)
        servers = [self._serve(stack, folder, "follower", port) for port in followers]
        servers.append(self._serve(stack, folder, "leader", leader, *followers))
        load = Process(stack, python("pipe_load", leader), folder / "load.log", talks=True)
        return Running([server.pid for server in servers], [load.pid], load.ask)

    @staticmethod
    def _serve(stack: ExitStack, folder: Path, role: str, *ports: int) -> Process:
        command = python("pipe_server", role, folder / f"{ports[0]}.log", *ports)
        server = Process(stack, command, folder / f"{ports[0]}.errors", talks=True)
        server.hear()
        return server

"""viewstamp as it is installed, with default settings, by one of its protocols."""

from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.base import Process, Running, python
from viewstamp.testkit.processes import ServerGroup

DEFAULTS = "# the defaults\n"


class Viewstamp:
    """Three `viewstamp serve` of the stock key/value service."""

    workloads: tuple[str, ...] = ("writes", "reads", "mixed")
    keeps_running = False
    connects = True

    def __init__(self, protocol: str) -> None:
        self.name = f"viewstamp-{protocol}"
        self._protocol = protocol

    def missing(self) -> list[str]:
        return []

    def prepare(self) -> None:
        """Nothing is compiled."""

    def version(self) -> str:
        return version("viewstamp")

    def start(self, stack: ExitStack, folder: Path) -> Running:
        group = stack.enter_context(ServerGroup(folder, 3, settings=DEFAULTS, protocol=self._protocol))
        group.start()
        load = Process(stack, python("viewstamp_load", group.cluster_file), folder / "load.log", talks=True)
        return Running([server.pid for server in group.servers.values()], [load.pid], load.ask)

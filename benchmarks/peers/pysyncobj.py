"""PySyncObj from the Python Package Index, in one of the two settings of `appendEntriesUseBatch`."""

import json
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.loads.lines import Plan
from benchmarks.peers.base import HOST, PeerFailed, Process, Running, python
from viewstamp.runtime.addresses import free_ports


class PySyncObj:
    """Three processes; the one that leads loads itself. It syncs nothing, and reads are not linearizable."""

    workloads: tuple[str, ...] = ("writes",)
    keeps_running = False
    connects = False

    def __init__(self, setting: str) -> None:
        self.name = f"pysyncobj-{setting}"
        self._setting = setting

    def missing(self) -> list[str]:
        try:
            version("pysyncobj")
        except PackageNotFoundError:
            return ["pysyncobj (requirements/bench.txt)"]
        return []

    def prepare(self) -> None:
        """Nothing is compiled."""

    def version(self) -> str:
        return version("pysyncobj")

    def start(self, stack: ExitStack, folder: Path) -> Running:
        addresses = [f"{HOST}:{port}" for port in free_ports(3)]
        nodes = []
        for own in addresses:
            others = [address for address in addresses if address != own]
            command = python("pysyncobj_node", self._setting, own, *others)
            nodes.append(Process(stack, command, folder / f"{own}.log", talks=True))
        return Running([node.pid for node in nodes], [], lambda plan: ask_all(nodes, plan))


def ask_all(nodes: list[Process], plan: Plan) -> dict[str, Any]:
    """Give a plan to every node: the leader carries it out, the others decline at once."""
    for node in nodes:
        node.say(plan.line())
    answers = [json.loads(node.hear(plan.warm_s + plan.seconds + 60.0)) for node in nodes]
    found: list[dict[str, Any]] = [answer for answer in answers if answer is not None]
    if len(found) != 1:
        raise PeerFailed(f"{len(found)} nodes of PySyncObj lead")
    return found[0]

"""Floods of ordinary messages at ten times each limit: what `status` and an honest write cost meanwhile.

    python -m benchmarks.floods --protocol raft --only queries

For each flood the slowest answer to an operator and the waits of honest writers are printed, in milliseconds
of this machine's time and, beside it, of the leader's processor: how much the leader worked between the
question and the answer. The second does not depend on what else the machine does.
"""

import argparse
import asyncio
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import msgspec

from benchmarks.tables import markdown
from viewstamp.core.errors import NotExecuted, OutcomeUnknown
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import NO_SESSION, Identify, QueryRequest, Results, Submit, client_number
from viewstamp.core.messages import encode_message as encode
from viewstamp.link.framing import CLIENT, encode_frame
from viewstamp.protocols.registry import PROTOCOL_NAMES
from viewstamp.runtime.addresses import Address
from viewstamp.runtime.connecting import connect
from viewstamp.services.kv import KeyValueStore
from viewstamp.testkit.hostile_wire import Attacker, secret_of, status_within
from viewstamp.testkit.load import wait_for_leader
from viewstamp.testkit.processes import ServerGroup

PLACE = 99
NUMBER = client_number(secret_of(PLACE))
CALLS = 8_192
"""Of one message: the most that a server takes."""
FRAMES = 10
"""Of them at once, on each connection."""
CONNECTIONS = 4
SILENT = 4_300


def _call(name: str, *arguments: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode([name, *arguments]))


def _flood(address: Address, frame: bytes, seconds: float) -> None:
    """Send one frame again and again on some connections, reading what is answered."""

    def one(number: int) -> None:
        end = monotonic() + seconds
        while monotonic() < end:
            with suppress(OSError), Attacker(address, source=f"127.0.0.{2 + number}") as attacker:
                attacker.speak_for(PLACE + number)
                attacker.send(frame * FRAMES)
                attacker.receive(Results)
                attacker.finish()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def queries(address: Address, seconds: float) -> None:
    """Queries of one key: 80,000 at once on each connection."""
    calls = [(number + 1, _call("get", "honest")) for number in range(CALLS)]
    _flood(address, encode_frame(CLIENT, encode(QueryRequest(NUMBER, "linearizable", calls))), seconds)


def pages(address: Address, seconds: float) -> None:
    """Queries that answer with a page of a thousand keys each."""
    calls = [(number + 1, _call("range", "", "", 1_000)) for number in range(CALLS)]
    _flood(address, encode_frame(CLIENT, encode(QueryRequest(NUMBER, "stale", calls))), seconds)


def commands(address: Address, seconds: float) -> None:
    """Commands without a session: 80,000 at once on each connection."""
    calls = [(number + 1, _call("set", f"flood{number}", b"x")) for number in range(CALLS)]
    _flood(address, encode_frame(CLIENT, encode(Submit(NUMBER, NO_SESSION, 0, calls))), seconds)


def numbers(address: Address, seconds: float) -> None:
    """One connection that speaks for another client with each message."""
    frames = []
    for place in range(1_000, 5_000):
        secret = secret_of(place)
        number = client_number(secret)
        query = QueryRequest(number, "linearizable", [(1, _call("get", "honest"))])
        frames += [encode_frame(CLIENT, encode(message)) for message in (Identify(number, secret), query)]
    _flood(address, b"".join(frames), seconds)


def silent(address: Address, seconds: float) -> None:
    """Connections that say hello and nothing else, more than a node has places for."""
    end = monotonic() + seconds
    held = []
    for number in range(SILENT):
        with suppress(OSError):
            held.append(Attacker(address, source=f"127.0.0.{2 + number % 200}", within_s=1.0))
        if monotonic() > end:
            break
    for attacker in held:
        attacker.close()


def nothing(_address: Address, seconds: float) -> None:
    """To compare with."""
    threading.Event().wait(seconds)


FLOODS: dict[str, Callable[[Address, float], None]] = {
    "none": nothing,
    "queries": queries,
    "pages": pages,
    "commands": commands,
    "numbers": numbers,
    "silent": silent,
}


def worked_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9


class Waits:
    """Seconds waited, and seconds that the leader worked meanwhile."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = (0.0, 0.0)
        self.waited: list[float] = []
        self.worked: list[float] = []

    def begin(self) -> None:
        """Something is asked."""
        self._began = monotonic(), worked_s(self._pid)

    def end(self) -> None:
        """It is answered."""
        self.waited.append(monotonic() - self._began[0])
        self.worked.append(worked_s(self._pid) - self._began[1])

    def shown(self, share: float) -> str:
        """Return a quantile of both in milliseconds."""
        place = int(share * (len(self.waited) - 1))
        waited, worked = (1_000 * sorted(each)[place] for each in (self.waited, self.worked))
        return f"{waited:.1f} / {worked:.1f}"


async def _write(group: ServerGroup, waits: Waits, over: threading.Event) -> int:
    failures = 0
    async with connect(group.cluster, KeyValueStore, timeout_s=30) as store:
        while not over.is_set():
            waits.begin()
            try:
                await store.set("honest", b"v")
            except (NotExecuted, OutcomeUnknown):
                failures += 1
            waits.end()
    return failures


async def _fill(group: ServerGroup) -> NodeId:
    async with connect(group.cluster, KeyValueStore, timeout_s=30) as store:
        await asyncio.gather(*(store.set(f"key{number}", b"v" * 32) for number in range(1_000)))
    return (await wait_for_leader(group)).node


def run(group: ServerGroup, kind: str, seconds: float) -> list[str]:
    """Flood the leader once; return a row of figures."""
    leader = asyncio.run(_fill(group))
    address, pid = group.cluster.addresses[leader], group.servers[leader].pid
    status, honest, over = Waits(pid), Waits(pid), threading.Event()
    failures: list[int] = []
    writer = threading.Thread(target=lambda: failures.append(asyncio.run(_write(group, honest, over))))
    flood = threading.Thread(target=FLOODS[kind], args=(address, seconds))
    writer.start()
    flood.start()
    while flood.is_alive():
        status.begin()
        status_within(address, within_s=30)
        status.end()
    over.set()
    flood.join()
    writer.join()
    return [
        kind,
        status.shown(0.5),
        status.shown(1.0),
        honest.shown(0.5),
        honest.shown(0.99),
        str(sum(failures)),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--protocol", choices=PROTOCOL_NAMES, default="raft")
    parser.add_argument("--only", choices=tuple(FLOODS), action="append")
    parser.add_argument("--seconds", type=float, default=5.0)
    chosen = parser.parse_args(arguments)
    rows = []
    with TemporaryDirectory() as folder, ServerGroup(Path(folder), 3, protocol=chosen.protocol) as group:
        group.start()
        for kind in chosen.only or tuple(FLOODS):
            rows.append(run(group, kind, chosen.seconds))
            print(rows[-1], file=sys.stderr, flush=True)
    heads = ["flood", "status, middle", "status, slowest", "write, p50", "write, p99", "failed writes"]
    print("milliseconds waited / worked by the leader")
    print(markdown(heads, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Three Patroni with PostgreSQL on viewstamp's etcd gateway, or on etcd: one is killed, and who writes then?

`python -m benchmarks.patroni viewstamp|etcd --rounds 20` kills, in turn, the leader of the store and the
primary of PostgreSQL, both with SIGKILL, and writes to all three PostgreSQL all the time. A server of
PostgreSQL that takes a write is a primary, whatever it says of itself. There must never be two at a time:

- no two servers take writes on one timeline;
- no server takes a write on a timeline after another one has taken a write on a later timeline.

Needs Debian's `postgresql`, `patroni[etcd3]` (a command, see `--patroni`), and `etcd` for the comparison.
PostgreSQL does not run as root: `--user` names whose processes these are.
"""

import argparse
import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from benchmarks.machine import describe
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import free_ports
from viewstamp.runtime.config import ClusterConfig, Member
from viewstamp.testkit.processes import ServerProcess

HOST: Final = "127.0.0.1"
MEMBERS: Final = 3
TTL_S: Final = 20
LOOP_WAIT_S: Final = 2
RETRY_S: Final = 5
WRITE_PAUSE_S: Final = 0.05
ANSWER_S: Final = 3.0
SETTLES_WITHIN_S: Final = 180.0
LEADER_WATCHED_S: Final = 15.0
PAUSE: Final = threading.Event()
"""Never set: the time of these programs is the real one."""
ACCESS: Final = {"username": "postgres", "password": "postgres"}


class Write(msgspec.Struct, frozen=True):
    """A write that a server of PostgreSQL took."""

    node: int
    number: int
    timeline: int
    began: float
    ended: float


class Writer:
    """Writes to one PostgreSQL, whatever it is, and remembers what it took."""

    def __init__(self, node: int, port: int, took: list[Write], numbers: Iterator[int]) -> None:
        self._node, self._took, self._numbers = node, took, numbers
        self._command = [
            *("psql", "-X", "-q", "-A", "-t"),
            f"host={HOST} port={port} user=postgres dbname=postgres connect_timeout=2",
        ]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError):  # psql has ended
                self._write_on()
            self._ended.wait(2 * WRITE_PAUSE_S)

    def _write_on(self) -> None:
        """Write until psql ends, or does not answer."""
        with subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as psql:
            try:
                while not self._ended.is_set() and self._write(psql):
                    self._ended.wait(WRITE_PAUSE_S)
            finally:
                psql.kill()

    def _write(self, psql: "subprocess.Popen[bytes]") -> bool:
        """Try one write; return whether psql is still of use."""
        number, began = next(self._numbers), time.monotonic()
        assert psql.stdin is not None
        assert psql.stdout is not None
        psql.stdin.write(
            b"CREATE TABLE IF NOT EXISTS writes (number int);\n"
            b"INSERT INTO writes VALUES (%d) RETURNING substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);\n"
            b"\\echo done\n" % number
        )
        psql.stdin.flush()
        lines = list(_lines(psql.stdout.fileno(), began + ANSWER_S))
        if not lines or lines[-1] != b"done":
            return False
        if len(lines) > 1:
            self._took.append(Write(self._node, number, int(lines[0], 16), began, time.monotonic()))
        return True


def _lines(stream: int, until: float) -> Iterator[bytes]:
    """Yield what psql prints, up to `done`."""
    rest = b""
    while select.select([stream], [], [], max(0.0, until - time.monotonic()))[0]:
        data = os.read(stream, 4096)
        if not data:
            return
        *whole, rest = (rest + data).split(b"\n")
        yield from whole
        if b"done" in whole:
            return


def two_primaries(took: Sequence[Write]) -> list[str]:
    """Return where two servers were primaries at a time, a line each."""
    found = []
    owners: dict[int, int] = {}
    newest = (0.0, 0)
    ends = sorted(took, key=lambda each: each.ended)
    place = 0
    for write in sorted(took, key=lambda each: each.began):
        while place < len(ends) and ends[place].ended < write.began:
            newest = max(newest, (float(ends[place].timeline), ends[place].node))
            place += 1
        if owners.setdefault(write.timeline, write.node) != write.node:
            found.append(
                f"{owners[write.timeline]} and {write.node} took writes on timeline {write.timeline}"
            )
        if write.timeline < newest[0]:
            found.append(
                f"{write.node} took a write on {write.timeline} after {newest[1]} on {newest[0]:.0f}"
            )
    return found


class Stores:
    """The three members of the store that Patroni uses."""

    def __init__(self, kind: str, folder: Path) -> None:
        ports = free_ports(2 * MEMBERS)
        self.addresses = [f"{HOST}:{port}" for port in ports[MEMBERS:]]
        make = self._viewstamp if kind == "viewstamp" else self._etcd
        self._starts = make(folder, ports)
        self._pids = [start() for start in self._starts]

    def _viewstamp(self, folder: Path, ports: list[int]) -> list[Callable[[], int]]:
        members = tuple(
            Member(number + 1, HOST, port, etcd=address)
            for number, (port, address) in enumerate(zip(ports, self.addresses, strict=False))
        )
        ClusterConfig(cluster_id="patroni", members=members).save(folder / "cluster.toml")
        processes = [
            ServerProcess(folder, NodeId(each.id), ["--etcd", str(each.etcd), "--insecure"])
            for each in members
        ]

        def starting(process: ServerProcess) -> int:
            if process.running or process.data.exists():
                process.wait()
            process.start()
            process.wait_ready(SETTLES_WITHIN_S)
            return process.pid

        return [lambda process=process: starting(process) for process in processes]  # type: ignore[misc]

    def _etcd(self, folder: Path, ports: list[int]) -> list[Callable[[], int]]:
        peers = [f"http://{HOST}:{port}" for port in ports[:MEMBERS]]
        initial = ",".join(f"e{number}={peer}" for number, peer in enumerate(peers))

        def starting(number: int) -> int:
            clients = f"http://{self.addresses[number]}"
            command = [
                *("etcd", "--name", f"e{number}", "--data-dir", str(folder / f"etcd{number}")),
                *("--listen-client-urls", clients, "--advertise-client-urls", clients),
                *("--listen-peer-urls", peers[number], "--initial-advertise-peer-urls", peers[number]),
                *("--initial-cluster", initial),
            ]
            return _started(command, folder / f"etcd{number}.log")

        return [lambda number=number: starting(number) for number in range(MEMBERS)]  # type: ignore[misc]

    def leader(self) -> int | None:
        """Return which member leads; both stores tell in the same way."""
        for number, address in enumerate(self.addresses):
            with contextlib.suppress(OSError, ValueError):
                said = _asked(f"http://{address}/v3/maintenance/status", b"{}")
                if said.get("leader") == said["header"]["member_id"]:
                    return number
        return None

    def kill(self, number: int) -> None:
        os.kill(self._pids[number], signal.SIGKILL)

    def start(self, number: int) -> None:
        self._pids[number] = self._starts[number]()

    def close(self) -> None:
        for pid in self._pids:
            _end(pid)


class Patronis:
    """Three Patroni, each with its PostgreSQL."""

    def __init__(self, folder: Path, stores: list[str], command: list[str], user: str | None) -> None:
        ports = free_ports(2 * MEMBERS)
        self.ports, self._rest = ports[:MEMBERS], ports[MEMBERS:]
        self._folder, self._command, self._user = folder, command, user
        self._stores = stores
        self._pids = [0] * MEMBERS
        for number in range(MEMBERS):
            home = folder / f"pg{number}"
            home.mkdir()
            home.with_suffix(".json").write_text(json.dumps(self._settings(number, home)), encoding="utf-8")
            if user is not None:
                shutil.chown(home, user)
            self.start(number)

    def _settings(self, number: int, home: Path) -> dict[str, Any]:
        port, rest = self.ports[number], self._rest[number]
        bin_dir = max(Path("/usr/lib/postgresql").glob("*/bin"))
        dynamic = {
            "ttl": TTL_S,
            "loop_wait": LOOP_WAIT_S,
            "retry_timeout": RETRY_S,
            "postgresql": {"use_pg_rewind": True, "parameters": {"wal_keep_size": "128MB"}},
        }
        return {
            "scope": "benchmark",
            "name": f"pg{number}",
            "restapi": {"listen": f"{HOST}:{rest}", "connect_address": f"{HOST}:{rest}"},
            "etcd3": {"hosts": self._stores},
            "bootstrap": {"dcs": dynamic, "initdb": [{"encoding": "UTF8"}, "data-checksums"]},
            "postgresql": {
                "listen": f"{HOST}:{port}",
                "connect_address": f"{HOST}:{port}",
                "data_dir": str(home / "data"),
                "bin_dir": str(bin_dir),
                "authentication": dict.fromkeys(("superuser", "replication", "rewind"), ACCESS),
                "pg_hba": [f"host all all {HOST}/32 trust", f"host replication all {HOST}/32 trust"],
                "parameters": {"unix_socket_directories": str(home), "shared_buffers": "16MB"},
                "pgpass": str(home / "pgpass"),
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
            },
        }

    def start(self, number: int) -> None:
        settings = self._folder / f"pg{number}.json"
        self._pids[number] = _started(
            [*self._command, str(settings)], settings.with_suffix(".log"), user=self._user, cwd=self._folder
        )

    def kill(self, number: int) -> None:
        """End Patroni and PostgreSQL at once, as a machine that fails does."""
        _end(self._pids[number])
        with contextlib.suppress(OSError, ValueError):
            pid = (self._folder / f"pg{number}" / "data" / "postmaster.pid").read_text().splitlines()[0]
            os.kill(int(pid), signal.SIGKILL)

    def settled(self) -> bool:
        """Return whether all members run, one of them as the leader."""
        for rest in self._rest:
            with contextlib.suppress(OSError, ValueError, KeyError):
                members = _asked(f"http://{HOST}:{rest}/cluster")["members"]
                states = [each["state"] for each in members if each["role"] != "leader"]
                return len(members) == MEMBERS and states == ["streaming"] * (MEMBERS - 1)
        return False

    def close(self) -> None:
        for number in range(MEMBERS):
            self.kill(number)


def _started(command: list[str], log: Path, *, user: str | None = None, cwd: Path | None = None) -> int:
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, user=user, cwd=cwd
        )
    return process.pid


def _end(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.waitpid(pid, 0)


def _asked(url: str, body: bytes | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=2) as answer:
        return json.load(answer)


def wait_until(what: str, condition: Callable[[], object]) -> None:
    end = time.monotonic() + SETTLES_WITHIN_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {SETTLES_WITHIN_S:.0f} s")
        PAUSE.wait(0.1)


class Round(msgspec.Struct, frozen=True):
    """What happened after one kill."""

    killed: str
    primary_before: int
    primary_after: int
    without_writes_s: float
    """The longest time without a write that was taken, from the kill on."""


def one_round(number: int, stores: Stores, patronis: Patronis, took: list[Write]) -> Round:
    wait_until("all members stream", patronis.settled)
    wait_until("the store has a leader", lambda: stores.leader() is not None)
    before, count, at = took[-1].node, len(took), time.monotonic()
    if number % 2:
        patronis.kill(before)
        wait_until("another primary", lambda: took[-1].node != before)
        patronis.start(before)
        wait_until("all members stream again", patronis.settled)
    else:
        leader = stores.leader()
        assert leader is not None
        stores.kill(leader)
        PAUSE.wait(LEADER_WATCHED_S)
        stores.start(leader)
        wait_until("writes", lambda: time.monotonic() - took[-1].ended < 1)
    moments = [at, *(each.ended for each in took[count:] if each.ended > at)]
    longest = max(later - earlier for earlier, later in itertools.pairwise(moments))
    return Round("primary" if number % 2 else "leader", before, took[-1].node, round(longest, 2))


def lost(took: Sequence[Write], port: int) -> int:
    """Return how many writes that were taken the last primary does not have."""
    where = f"host={HOST} port={port} user=postgres dbname=postgres"
    command = ["psql", "-X", "-A", "-t", where, "-c", "SELECT number FROM writes"]
    answer = subprocess.run(command, capture_output=True, check=True)
    return len({each.number for each in took} - set(map(int, answer.stdout.split())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", choices=["viewstamp", "etcd"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--patroni", default="patroni", help="command that runs Patroni")
    parser.add_argument("--user", default="postgres" if os.geteuid() == 0 else None)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="patroni-"))
    folder.chmod(0o755)
    took: list[Write] = []
    rounds: list[Round] = []
    numbers = itertools.count(1)
    with contextlib.ExitStack() as stack:
        stores = Stores(arguments.store, folder)
        stack.callback(stores.close)
        wait_until("the store has a leader", lambda: stores.leader() is not None)
        patronis = Patronis(folder, stores.addresses, arguments.patroni.split(), arguments.user)
        stack.callback(patronis.close)
        for node, port in enumerate(patronis.ports):
            stack.callback(Writer(node, port, took, numbers).close)
        wait_until("the first write", lambda: took)
        for number in range(arguments.rounds):
            rounds.append(one_round(number, stores, patronis, took))
            print(json.dumps(msgspec.to_builtins(rounds[-1])), flush=True)
        missing = lost(took, patronis.ports[took[-1].node])
    found = two_primaries(took)
    for kind in ("leader", "primary"):
        gaps = sorted(each.without_writes_s for each in rounds if each.killed == kind)
        if gaps:
            spread = f"{gaps[0]} to {gaps[-1]} s, median {gaps[len(gaps) // 2]} s"
            print(f"{kind} killed {len(gaps)} times: without writes for {spread}")
    moved = sum(each.killed == "leader" and each.primary_before != each.primary_after for each in rounds)
    print(f"store {arguments.store}; {len(took)} writes taken, {missing} not there at the end")
    print(f"primaries that changed because the leader of the store was killed: {moved}")
    print(f"two primaries at a time: {len(found)}")
    print(*found[:10], sep="\n")
    print(describe())
    shutil.rmtree(folder)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()

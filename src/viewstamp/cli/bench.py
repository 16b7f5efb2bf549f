"""`viewstamp bench`: load a cluster of the stock key/value service, measure, and record what happened."""

import asyncio
import os
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from cyclopts import Parameter

from viewstamp.checker.history import OutcomeKind, Recorder, write_history
from viewstamp.cli.failures import DONE, REFUSED
from viewstamp.cli.output import show_json
from viewstamp.cli.target import CLUSTER_FILE, check_timeout, locate
from viewstamp.core.errors import CommandFailed, ConfigurationError, NotExecuted, OutcomeUnknown
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.system import fresh_number, loop_factory, monotonic_us
from viewstamp.services.kv import VALUE_BYTES_MAX, KeyValueStore, NoKey, VersionMismatch

Workload = Literal["writes", "reads", "mixed"]
Store: TypeAlias = type[KeyValueStore]

CONNECTIONS: Final = 16
VALUE_BYTES: Final = 32
KEYS: Final = 1_000
CLIENTS_MAX: Final = 100_000
_STRIDE: Final = 7_919
"""A prime, so that the clients start on different keys."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be done."""

    clients: int
    connections: int
    seconds: float
    value_bytes: int
    keys: int
    workload: Workload
    prefix: str
    recorded: bool

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        if not 1 <= self.clients <= CLIENTS_MAX:
            raise ConfigurationError(f"--clients {self.clients}: give 1 to {CLIENTS_MAX}")
        if not 0 < self.seconds <= 86_400:
            raise ConfigurationError(f"--seconds {self.seconds}: give more than 0 and at most 86400")
        for name, value in (("keys", self.keys), ("connections", self.connections)):
            if value < 1:
                raise ConfigurationError(f"--{name} {value}: give 1 or more")
        if not 0 <= self.value_bytes <= VALUE_BYTES_MAX:
            raise ConfigurationError(f"--value-bytes {self.value_bytes}: give 0 to {VALUE_BYTES_MAX}")


class Tally:
    """What was measured."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.counts = {"ok": 0, "raised": 0, "failed": 0, "unknown": 0}
        self.recorder = Recorder()

    def document(self, plan: Plan, elapsed_s: float) -> dict[str, Any]:
        """Return the figures for JSON; latencies in microseconds, of calls that returned."""
        ordered = sorted(self.latencies_s)
        return {
            "workload": plan.workload,
            "clients": plan.clients,
            "connections": min(plan.connections, plan.clients),
            "value_bytes": plan.value_bytes,
            "seconds": round(elapsed_s, 3),
            "operations": len(ordered),
            "per_second": round(len(ordered) / elapsed_s, 1),
            "latency_us": {name: quantile_us(ordered, share) for name, share in _QUANTILES.items()},
            "outcomes": self.counts,
        }


_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}


def bench(
    *,
    clients: Annotated[int, Parameter(help="Clients with one call under way each.")] = 64,
    seconds: Annotated[float, Parameter(help="For how long.")] = 5.0,
    value_bytes: Annotated[int, Parameter(help="Size of a value.")] = VALUE_BYTES,
    workload: Annotated[Workload, Parameter(help="What the clients do.")] = "writes",
    keys: Annotated[int, Parameter(help="How many keys they share.")] = KEYS,
    connections: Annotated[int, Parameter(help="Sessions that the clients share.")] = CONNECTIONS,
    history: Annotated[Path | None, Parameter(help="Write each call and its outcome there.")] = None,
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
    cluster: Annotated[Path, Parameter(help="Cluster file.")] = Path(CLUSTER_FILE),
    servers: Annotated[str | None, Parameter(help="HOST:PORT,... instead of a file.")] = None,
    timeout: Annotated[float, Parameter(help="Seconds until a call is given up.")] = 10.0,
) -> int:
    """Load a cluster, measure, record what happened.

    Reads are linearizable. A history is judged by `viewstamp check`. Exit code 1: a call did not return.
    """
    plan = Plan(
        clients=clients,
        connections=connections,
        seconds=seconds,
        value_bytes=value_bytes,
        keys=keys,
        workload=workload,
        prefix="key" if history is None else f"history-{fresh_number():x}-",
        recorded=history is not None,
    )
    where = locate(cluster, servers)
    if history is not None:
        check_history(history)
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        tally, elapsed_s = runner.run(run(plan, where, check_timeout(timeout)))
    if history is not None:
        with history.open("xb") as file:
            write_history(tally.recorder.operations(), file)
    document = tally.document(plan, elapsed_s)
    if json:
        show_json(document)
    else:
        _show(document)
    return DONE if len(tally.latencies_s) == sum(tally.counts.values()) else REFUSED


def check_history(path: Path) -> None:
    """Refuse a file that could not be written after all the calls.

    Raises:
        ConfigurationError: it exists, or cannot be made.
    """
    if path.exists():
        raise ConfigurationError(f"{path} exists and is left as it is: name another file")
    if not os.access(path.parent, os.W_OK):
        raise ConfigurationError(f"--history {path}: it cannot be written; nothing was measured")


async def run(plan: Plan, where: Any, timeout_s: float) -> tuple[Tally, float]:
    """Let the clients loose; return what they measured and how many seconds it took."""
    tally = Tally()
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(min(plan.connections, plan.clients)):
            connecting = connect(where, KeyValueStore, timeout_s=timeout_s)
            stores.append(await stack.enter_async_context(connecting))
        await _prepare(plan, stores[0], tally)
        began = perf_counter()
        client = _recorded_client if plan.recorded else _client
        end = began + plan.seconds
        await asyncio.gather(
            *(client(plan, stores[n % len(stores)], tally, n, end) for n in range(plan.clients))
        )
        return tally, perf_counter() - began


async def _prepare(plan: Plan, store: Store, tally: Tally) -> None:
    """Make what will be read. In a history these are calls like any other."""
    if plan.workload == "writes":
        return
    value = b"x" * plan.value_bytes
    for begin in range(0, plan.keys, KEYS):
        names = [f"{plan.prefix}{number}" for number in range(begin, min(begin + KEYS, plan.keys))]
        if plan.recorded:
            await asyncio.gather(*(_record(tally, -1, "set", name, value, store) for name in names))
        else:
            await asyncio.gather(*(store.set(name, value) for name in names))


async def _client(plan: Plan, store: Store, tally: Tally, number: int, end: float) -> None:
    value = b"x" * plan.value_bytes
    latencies, prefix, keys = tally.latencies_s, plan.prefix, plan.keys
    place = number * _STRIDE
    while (began := perf_counter()) < end:
        place += 1
        key = f"{prefix}{place % keys}"
        reading = plan.workload == "reads" or (plan.workload == "mixed" and place % 2 == 0)
        outcome, _ = await _outcome(store.get(key) if reading else store.set(key, value))
        tally.counts[outcome] += 1
        if outcome == "ok":
            latencies.append(perf_counter() - began)


async def _recorded_client(plan: Plan, store: Store, tally: Tally, number: int, end: float) -> None:
    """As `_client`, but every value is another, so that a checker can tell them apart."""
    place = number * _STRIDE
    while (began := perf_counter()) < end:
        place += 1
        reading = plan.workload == "reads" or (plan.workload == "mixed" and place % 2 == 0)
        value = b"%d-%d" % (number, place)
        op = "get" if reading else "set"
        key = f"{plan.prefix}{place % plan.keys}"
        outcome = await _record(tally, number, op, key, value.ljust(plan.value_bytes, b"."), store)
        tally.counts[outcome] += 1
        if outcome == "ok":
            tally.latencies_s.append(perf_counter() - began)


async def _record(tally: Tally, client: int, op: str, key: str, value: bytes, store: Store) -> OutcomeKind:
    recorder = tally.recorder
    args = () if op == "get" else (value.decode(),)
    handle = recorder.begin(client, op, key, args, now=monotonic_us())
    outcome, result = await _outcome(store.get(key) if op == "get" else store.set(key, value))
    recorder.end(handle, outcome, result, now=monotonic_us())
    return outcome


async def _outcome(call: Awaitable[Any]) -> tuple[OutcomeKind, Any]:
    """Await a call and say how it ended, in the words of `sim.history`."""
    try:
        result = await call
    except NotExecuted:
        return "failed", None
    except OutcomeUnknown:
        return "unknown", None
    except (NoKey, VersionMismatch) as error:
        return "raised", type(error).__name__
    except CommandFailed as error:
        return "raised", error.kind
    if isinstance(result, tuple):
        value, version = result
        return "ok", [value.decode(errors="backslashreplace"), version]
    return "ok", result


def quantile_us(ordered: list[float], share: float) -> int | None:
    """Return the value below which this share of the ordered seconds lies; None where there are none."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e6)


def _show(document: dict[str, Any]) -> None:
    print(f"{document['operations']} {document['workload']} of {document['value_bytes']} bytes by ", end="")
    print(f"{document['clients']} clients in {document['seconds']} s: {document['per_second']:.0f} a second")
    print("latency  " + "  ".join(f"{name} {value} us" for name, value in document["latency_us"].items()))
    others = {name: count for name, count in document["outcomes"].items() if count and name != "ok"}
    if others:
        print("not ok   " + "  ".join(f"{name} {count}" for name, count in others.items()))

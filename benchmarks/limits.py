"""What the waiting of users may be at most, and whether what was measured is within it."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from benchmarks.tables import markdown

MIB: Final = 1 << 20
Found = dict[str, Any]


class Verdict(msgspec.Struct, frozen=True):
    """One figure."""

    title: str
    seen: str
    limit: str
    met: bool


class Limit(msgspec.Struct, frozen=True):
    """A figure, and what it may be at most; None: it is only told."""

    part: str
    title: str
    read: Callable[[Any], float]
    form: Callable[[float], str]
    at_most: float | None = None


def seconds(value: float) -> str:
    return f"{value:.2f} s"


def milliseconds(us: float) -> str:
    return f"{us / 1000:.1f} ms"


def percent(cores: float) -> str:
    return f"{100 * cores:.2f} % of a core"


def mebibytes(count: float) -> str:
    return f"{count / MIB:.0f} MiB"


def times(ratio: float) -> str:
    return f"{ratio:.2f} times"


def rate(count: float) -> str:
    return f"{count / MIB:.0f} MiB a second"


def plain(count: float) -> str:
    return f"{count:.0f} bytes"


def p99(figures: Found) -> float:
    return float(figures["latency_us"]["p99"])


def by_protocol(found: Found) -> Iterator[tuple[str, Limit]]:
    """Yield what is measured of each protocol."""
    for name in found.get("failover", {}):
        title = f"SIGKILL of the leader under load, no acknowledged write, `{name}`"
        yield name, Limit("failover", f"{title}: median of 20", lambda one: one["median_s"], seconds, 0.5)
        yield name, Limit("failover", f"{title}: worst of 20", lambda one: one["worst_s"], seconds, 1.5)
    for name in found.get("idle", {}):
        title = f"idle cluster of three, `{name}`: the busiest server"
        yield name, Limit("idle", title, lambda one: max(one["cores"]), percent, 0.01)


LIMITS: Final = [
    Limit(
        "snapshots", "200 MB of state: write p99, undisturbed", lambda one: p99(one["quiet"]), milliseconds
    ),
    Limit(
        "snapshots",
        "write p99 while all nodes take a snapshot",
        lambda one: p99(one["taking"]),
        milliseconds,
        100_000.0,
    ),
    Limit(
        "snapshots",
        "write p99 while it is sent to a wiped node",
        lambda one: p99(one["sending"]),
        milliseconds,
        100_000.0,
    ),
    Limit(
        "snapshots",
        "write p99, values of 8 KiB, until the log has grown so much that all nodes take snapshots",
        lambda one: p99(one["growing"]),
        milliseconds,
        100_000.0,
    ),
    Limit(
        "snapshots",
        "from SIGKILL and the loss of its disk until a node has the state again",
        lambda one: one["sent_s"],
        seconds,
    ),
    Limit("snapshots", "transfer of state, restart included", lambda one: one["sent_bytes_per_second"], rate),
    Limit(
        "restart",
        "restart with 1,000,000 commands in the log, as 1,000 clients batch them, until a read is answered",
        lambda one: one["batched"]["answered_s"],
        seconds,
        10.0,
    ),
    Limit(
        "restart",
        "the same with 1,000,000 entries of one command each",
        lambda one: one["one_each"]["answered_s"],
        seconds,
        10.0,
    ),
    Limit("startup", "new cluster of three: until all listen", lambda one: one["listening_s"], seconds),
    Limit(
        "startup",
        "new cluster of three: until its first write is done",
        lambda one: one["first_write_s"],
        seconds,
    ),
    Limit("startup", "`viewstamp status`, from start to end", lambda one: one["status_s"], seconds),
    Limit("memory", "memory of an empty server", lambda one: one["empty_bytes"], mebibytes),
    Limit(
        "memory", "memory for a key of 11 bytes with a value of 32", lambda one: one["bytes_per_key"], plain
    ),
    Limit("memory", "memory for a session that keeps a result", lambda one: one["bytes_per_session"], plain),
    Limit(
        "flood",
        "write p99 of other clients, undisturbed",
        lambda one: p99(one["quiet"]["others"]),
        milliseconds,
    ),
    Limit(
        "flood",
        "write p99 of others beside a client with 10,000 requests under way",
        lambda one: p99(one["in_flight"]["others"]),
        milliseconds,
        1_000_000.0,
    ),
    Limit(
        "flood",
        "memory of the biggest server meanwhile",
        lambda one: one["in_flight"]["server_peak_bytes"],
        mebibytes,
        256.0 * MIB,
    ),
    Limit(
        "flood",
        "memory of that client",
        lambda one: one["in_flight"]["crowd"]["client_peak_bytes"],
        mebibytes,
        256.0 * MIB,
    ),
    Limit(
        "flood",
        "write p99 of others beside a client that never reads its replies",
        lambda one: p99(one["never_reads"]["others"]),
        milliseconds,
        1_000_000.0,
    ),
    Limit(
        "flood",
        "memory of the biggest server meanwhile (2 GB of replies were asked for)",
        lambda one: one["never_reads"]["server_peak_bytes"],
        mebibytes,
        256.0 * MIB,
    ),
    Limit(
        "tls",
        "256 clients that write: processor time of servers and clients for a write with TLS, to that without",
        lambda one: 1 / one["of_plain"]["processor"],
        times,
        1.25,
    ),
    Limit(
        "tls",
        "the same: time for a write with TLS, to that without",
        lambda one: 1 / one["of_plain"]["rate"],
        times,
    ),
    Limit(
        "tls",
        "a client connects with TLS to one server: processor time of both ends, least of eight turns",
        lambda one: one["connecting"]["tls"]["processor_s"] * 1e6,
        milliseconds,
        3_000.0,
    ),
    Limit(
        "tls",
        "the same: quickest of 800, by the clock",
        lambda one: one["connecting"]["tls"]["least_s"] * 1e6,
        milliseconds,
        3_000.0,
    ),
]


def verdicts(found: Found) -> list[Verdict]:
    """Return all that can be said of what was measured."""
    limits = [(found[limit.part], limit) for limit in LIMITS if limit.part in found]
    limits += [(found[limit.part][name], limit) for name, limit in by_protocol(found)]
    return [judge(limit, limit.read(measured)) for measured, limit in limits]


def judge(limit: Limit, value: float) -> Verdict:
    """Compare a figure with its limit."""
    if limit.at_most is None:
        return Verdict(limit.title, limit.form(value), "", met=True)
    return Verdict(limit.title, limit.form(value), limit.form(limit.at_most), value <= limit.at_most)


def limits_table(found: Found) -> str:
    """Return a table of Markdown."""
    lines = [
        [one.title, one.seen, one.limit or "-", ("yes" if one.met else "**no**") if one.limit else ""]
        for one in verdicts(found)
    ]
    return markdown(["figure", "seen", "at most", "met"], lines)

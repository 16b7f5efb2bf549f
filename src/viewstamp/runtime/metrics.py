"""Counters as plain integers: raising one costs as much as an attribute, reading them all makes a dict."""

from bisect import bisect_left
from dataclasses import dataclass, field, fields
from typing import Final

BOUNDS_US: Final = (
    *(100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000),
    *(100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000),
)
"""Upper bounds of the buckets of durations, in microseconds; what is longer is counted beyond the last."""


class Histogram:
    """How long something took, counted by buckets."""

    __slots__ = ("counts", "sum_us")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_US) + 1)
        """How many fell into each bucket of `BOUNDS_US`, and beyond the last. Read-only for callers."""
        self.sum_us = 0

    def observe(self, took_us: int) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS_US, took_us)] += 1
        self.sum_us += took_us


@dataclass(slots=True)
class Metrics:
    """What happened at one node since it started. Every field is a count unless its name says otherwise."""

    events: int = 0
    """Events fed to the replica."""
    wakes: int = 0
    """Of these: deadlines that had passed."""
    turns: int = 0
    """Turns of the loop in which the driver worked; events / turns is how well work gathers."""
    syncs: int = 0
    """Syncs of the journal."""
    syncs_off_loop: int = 0
    """Of these: made in the executor because the disk is slow."""
    sync_us: int = 0
    """Time spent in them, in microseconds."""
    persisted: int = 0
    """Atomic writes made durable by them."""
    snapshots: int = 0
    """Snapshots saved."""
    snapshots_forked: int = 0
    """Of these: written by a forked copy of the process."""
    snapshots_failed: int = 0
    """Snapshots that could not be made, such as on a full disk."""
    peer_messages_in: int = 0
    """Protocol messages received from other members."""
    peer_messages_out: int = 0
    """Protocol messages given to a connection."""
    peer_messages_dropped: int = 0
    """Protocol messages lost because the peer was away or its queue was full."""
    client_messages_in: int = 0
    """Messages received from clients."""
    client_messages_waited: int = 0
    """Of these: kept for a later turn, because one had lasted long enough."""
    client_messages_out: int = 0
    """Messages given to a client's connection."""
    calls_denied: int = 0
    """Calls, and requests for a session, that no grant or role permits to their principal."""
    connections_accepted: int = 0
    """Connections accepted on the one port, of peers, clients and strangers."""
    connections_refused: int = 0
    """Of these: refused with a reason, in the hello or by a limit."""
    violations: int = 0
    """Connections closed because what they sent is not allowed."""
    clients_stalled: int = 0
    """Clients cut off because they did not read their replies."""
    frames_late: int = 0
    """Connections cut off because a frame was not complete in time."""
    clients_idle: int = 0
    """Clients disconnected because they sent nothing for a long time."""
    clients_displaced: int = 0
    """Clients that gave way, when places were short, because they had said nothing since their hello."""
    dials: int = 0
    """Attempts to connect to another member."""
    stalls: int = 0
    """Times that the loop came late to a deadline by so much that the sockets were emptied first."""

    leader_changes: int = 0
    """Times that another leader or view became known."""
    notices: int = 0
    """Lines for the operator: a member differs, or this one was in doubt."""
    commands_refused: int = 0
    """Calls refused because too many, or too much, waited."""
    disk_free_bytes: int = 0
    """Room for the data directory at the last look; not a count. 0: not known."""
    disk_is_low: int = 0
    """1 while only commands are taken that free something; not a count."""
    certificate_expires_at_s: int = 0
    """Seconds since 1970; not a count. 0: this node shows no certificate."""
    sync_time: Histogram = field(default_factory=Histogram)
    """Of syncs of the journal."""
    commit_time: Histogram = field(default_factory=Histogram)
    """From proposing to executing, of the last entry of a step, at the leader."""
    apply_time: Histogram = field(default_factory=Histogram)
    """Of steps that executed entries; one step in `driver.MEASURED_EVERY` is measured."""
    queue_time: Histogram = field(default_factory=Histogram)
    """How long the oldest message of a client waited until all that waited was proposed."""
    snapshot_time: Histogram = field(default_factory=Histogram)
    """Of saving snapshots."""

    def snapshot(self) -> dict[str, int]:
        """Return all counters by name."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value for name, value in values if isinstance(value, int)}

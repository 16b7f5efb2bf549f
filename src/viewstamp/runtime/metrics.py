"""Counters as plain integers: raising one costs as much as an attribute, reading them all makes a dict."""

from dataclasses import dataclass, fields


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

    def snapshot(self) -> dict[str, int]:
        """Return all counters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

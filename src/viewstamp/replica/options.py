"""Options of replicas and clients, validated when made. Everything that can grow has a limit."""

from random import Random
from typing import Final, Literal

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import COMMANDS_PER_ENTRY_MAX, Instant, NodeId
from viewstamp.core.messages import MESSAGE_CALLS_MAX

NEVER: Final = 1 << 64
"""More entries than any log will have."""
TIME_TO_LIVE_MAX_MS: Final = 10 * 366 * 86_400_000


def _require(fits: bool, what: str) -> None:  # noqa: FBT001  a condition
    if not fits:
        raise ConfigurationError(what)


class SessionLimits(msgspec.Struct, frozen=True):
    """Limits of exactly-once sessions. They decide what every replica does: equal on all members.

    Raises:
        ConfigurationError: a limit is out of range.
    """

    time_to_live_ms: int = 60_000
    """A session without a message for this long, in log time, expires, unless its client asked otherwise."""
    time_to_live_min_ms: int = 1_000
    """A client that asks for less gets this, or `time_to_live_ms` where that is less still."""
    time_to_live_max_ms: int = 600_000
    """A client that asks for more gets this, or `time_to_live_ms` where that is more still."""
    sessions_max: int = 100_000
    """One more is refused until another ends."""
    results_per_session_max: int = 16_384
    """Results kept until the client acknowledges them; a client that exceeds it loses its session."""
    result_bytes_per_session_max: int = 64 << 20
    result_bytes_max: int = 1 << 30
    """Of all sessions together: beyond it (and one result more) commands are refused.

    From half of it on they are refused to clients that keep more than their share unacknowledged.
    """

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name in ("time_to_live_ms", "time_to_live_min_ms", "time_to_live_max_ms"):
            within = 1 <= getattr(self, name) <= TIME_TO_LIVE_MAX_MS
            _require(within, f"sessions: {name}: 1 to {TIME_TO_LIVE_MAX_MS}")
        _require(
            self.time_to_live_min_ms <= self.time_to_live_max_ms,
            "sessions: time_to_live_min_ms exceeds time_to_live_max_ms",
        )
        _require(1 <= self.sessions_max <= COMMANDS_PER_ENTRY_MAX // 2, "sessions: sessions_max: 1 to 524288")
        _require(self.results_per_session_max >= 1, "sessions: results_per_session_max must be 1 or more")
        _require(self.result_bytes_per_session_max >= 1, "sessions: result_bytes_per_session_max: 1 or more")
        _require(self.result_bytes_max >= 1, "sessions: result_bytes_max must be 1 or more")

    def changed(self, name: str, value: int) -> "SessionLimits":
        """Return the limits with one of them changed.

        Raises:
            ConfigurationError: there is no such limit, or it does not fit.
        """
        _require(name in self.__struct_fields__, f"sessions: there is no limit {name[:80]!r}")
        return msgspec.structs.replace(self, **{name: value})

    def granted_ms(self, wanted_ms: int) -> int:
        """Return the time to live of a session whose client asked for this one; 0: it did not ask."""
        own = self.time_to_live_ms
        if not wanted_ms:
            return own
        return max(min(self.time_to_live_min_ms, own), min(wanted_ms, max(self.time_to_live_max_ms, own)))


class ReplicaOptions(msgspec.Struct, frozen=True):
    """Limits of one replica.

    Raises:
        ConfigurationError: a limit is out of range.
    """

    sessions: SessionLimits = SessionLimits()
    batch_commands_max: int = 8_192
    """Calls in one entry of the log; also the most calls that one message may hold, up to 16,384."""
    batch_bytes_max: int = 1 << 20
    """Bytes of one entry, unless a single message is larger."""
    command_bytes_max: int = 1 << 20
    """An encoded call that is longer is invalid."""
    gathered_commands_max: int = 65_536
    """Calls that wait to be proposed; more are refused."""
    gathered_bytes_max: int = 64 << 20
    reads_max: int = 65_536
    """Linearizable queries that wait; more are refused."""
    waits_max: int = 65_536
    """Queries that wait until they have something to tell (watches); more are refused."""
    waits_per_connection_max: int = 16_384
    clients_max: int = 65_536
    """Clients that are connected here; one more is turned away."""
    clients_per_connection_max: int = 64
    """Clients that one connection may speak for; one more is turned away."""
    directives_max: int = 64
    log_tail_bytes_max: int = 16 << 20
    """Bytes of the last entries that are kept for those who follow the log; older ones are gone for them."""
    disk_stall_ms: int = 500
    """A leader whose disk has not finished a write for this long lets another member lead; 0: never."""
    state_check_every: int = 8_192
    """The state is hashed at each entry whose number is a multiple of this, where a hundredth of the time
    allows it, and compared between members. Equal on all members; 0: never."""

    @property
    def message_calls_max(self) -> int:
        """The most calls that one message may hold."""
        return min(self.batch_commands_max, MESSAGE_CALLS_MAX)

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        within = 1 <= self.batch_commands_max <= COMMANDS_PER_ENTRY_MAX // 2
        _require(within, "batch_commands_max must be from 1 to 524288")
        for name in ("batch_bytes_max", "command_bytes_max", "gathered_commands_max", "gathered_bytes_max"):
            _require(getattr(self, name) >= 1, f"{name} must be 1 or more")
        _require(self.disk_stall_ms >= 0, "disk_stall_ms must be 0 (never) or more")
        _require(self.state_check_every >= 0, "state_check_every must be 0 (never) or more")
        for name in (
            "reads_max",
            "waits_max",
            "waits_per_connection_max",
            "clients_max",
            "clients_per_connection_max",
            "directives_max",
            "log_tail_bytes_max",
        ):
            _require(getattr(self, name) >= 1, f"{name} must be 1 or more")

    @property
    def check_interval(self) -> int:
        """`state_check_every`, where 0 is a number that no entry is a multiple of."""
        return self.state_check_every or NEVER


class ClientOptions(msgspec.Struct, frozen=True):
    """Limits and times of one client.

    Raises:
        ConfigurationError: a limit is out of range.
    """

    window: int = 8_192
    """Most sequence numbers between the oldest unanswered call and the newest sent one.

    Less than `SessionLimits.results_per_session_max` of the cluster.
    """
    calls_max: int = 131_072
    """Calls open at once; more fail at once as not executed."""
    message_calls_max: int = 4_096
    """Calls in one message; not more than the servers' `batch_commands_max`."""
    message_bytes_max: int = 512 << 10
    call_bytes_max: int = 15 << 20
    """A longer call is refused here. It would fit into no frame of a server (`client_frame_bytes_max`, which
    is larger): the server would cut the connection, and with it all other calls, again and again."""
    answer_timeout_ms: int = 1_000
    """A call without an answer after this time is sent to the next server; doubles up to the next field."""
    answer_timeout_max_ms: int = 8_000
    backoff_min_ms: int = 10
    """Pause after all servers were tried without progress; doubles up to the next field, with jitter."""
    backoff_max_ms: int = 1_000
    session_time_to_live_ms: int = 0
    """How long the session is to live when nothing comes from this client, within the cluster's bounds
    (`SessionLimits`). 0: the cluster's own."""

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name in self.__struct_fields__:
            if name != "session_time_to_live_ms":
                _require(getattr(self, name) >= 1, f"{name} must be 1 or more")
        within = 0 <= self.session_time_to_live_ms <= TIME_TO_LIVE_MAX_MS
        _require(within, f"session_time_to_live_ms: 0 (the cluster's) to {TIME_TO_LIVE_MAX_MS}")
        _require(
            self.message_calls_max <= MESSAGE_CALLS_MAX, f"message_calls_max exceeds {MESSAGE_CALLS_MAX}"
        )
        _require(
            self.answer_timeout_ms <= self.answer_timeout_max_ms, "answer_timeout_ms exceeds its maximum"
        )
        _require(self.backoff_min_ms <= self.backoff_max_ms, "backoff_min_ms exceeds backoff_max_ms")


class ClientSetup(msgspec.Struct, frozen=True):
    """Everything that a client is made of."""

    servers: tuple[NodeId, ...]
    secret: bytes
    """`SECRET_BYTES` random bytes, drawn for each client ever made: never reuse them (docs/faults.md#k20).

    A program that knows them may speak for this client: they go to its servers and nowhere else.
    """
    rng: Random
    now: Instant
    options: ClientOptions = ClientOptions()
    exactly_once: bool = True
    """Whether commands run under a session. Without one a call is sent once, and may end in "unknown"."""
    write_routing: Literal["leader", "any"] = "leader"

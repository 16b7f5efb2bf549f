"""What the two clients have in common: finding a cluster, what a call is and how it ends, dialling servers.

A call ends as a value or as an exception: `result_of` says which of the two.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final, Protocol

import msgspec

from viewstamp.core.durations import number
from viewstamp.core.errors import (
    CallError,
    CommandFailed,
    ConfigurationError,
    InvalidCall,
    NotExecuted,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    ProtocolViolation,
    SessionExpired,
)
from viewstamp.core.ids import Instant, NodeId, Viewstamp
from viewstamp.core.messages import MembersChanged, Redirect, ServerMessage
from viewstamp.link.dialer import Dialer, DialLimits, Greeting
from viewstamp.link.framing import CLIENT
from viewstamp.link.handshake import client_hello
from viewstamp.machine.definition import Method
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.client.client import ClientCore
from viewstamp.replica.client.failures import names
from viewstamp.replica.events import CallId, Deliver, Failed, Outcome, Raised, Returned
from viewstamp.replica.options import TIME_TO_LIVE_MAX_MS, ClientOptions, ClientSetup
from viewstamp.runtime.addresses import Address, check_address, format_address
from viewstamp.runtime.config import KIB, MIB, TlsFiles
from viewstamp.runtime.discovery import Known, Where, locate
from viewstamp.runtime.forks import stays_behind, used_after_fork
from viewstamp.runtime.security import client_security
from viewstamp.runtime.system import Clock, check_timeout_s, fresh_rng, fresh_secret
from viewstamp.runtime.tokens import TokenSource

CLIENT_LIMITS: Final = DialLimits(
    hello_bytes_max=16 * KIB,
    frame_bytes_max=64 * MIB,
    send_bytes_max=64 * MIB,
    dial_timeout_ms=2_000,
    backoff_min_ms=20,
    backoff_max_ms=1_000,
)
ASK_AGAIN_S: Final = 0.5
"""Pause before members are asked for again, while none that was known can be reached."""
ASK_PAUSE_S: Final = 0.05
"""Pause between two rounds of asking addresses that do not answer."""


class ServerLink(Protocol):
    """What both drivers of a link offer."""

    @property
    def refusal(self) -> str:
        """Why the server last refused this client; empty where it did not."""
        ...

    def hurry(self) -> None:
        """There is a reason to dial now."""
        ...


class AddressedLink(Protocol):
    """A link whose server may be found elsewhere from now on."""

    address: Address

    @property
    def named(self) -> Sequence[tuple[int, str, int]]:
        """The members with their addresses, as the server's last welcome had them."""
        ...


class MemberChange(msgspec.Struct, frozen=True):
    """How the links of a client differ from the members that a server named."""

    new: dict[NodeId, Address]
    gone: tuple[NodeId, ...]
    moved: dict[NodeId, Address]


def change_of(links: Mapping[NodeId, AddressedLink], message: MembersChanged) -> MemberChange:
    """Return which links are missing, which are to go, and which servers are found elsewhere.

    Raises:
        ProtocolViolation: the message names what cannot be an address.
    """
    try:
        named = {NodeId(node): check_address(host, port) for node, host, port in message.members}
    except ConfigurationError as error:
        raise ProtocolViolation(f"a server names members that cannot be found: {error}") from error
    return MemberChange(
        new={node: at for node, at in named.items() if node not in links},
        gone=tuple(node for node in links if node not in named),
        moved={node: at for node, at in named.items() if node in links and links[node].address != at},
    )


class ClientBase:
    """A client of one cluster, without its sockets and its way of waiting."""

    def __init__(
        self,
        where: Where,
        *,
        timeout_s: float,
        exactly_once: bool,
        options: ClientOptions | None,
        notified: Callable[[bytes], None] | None,
        clock: Clock,
        operator: bool = False,
        token: TokenSource | None = None,
        tls: TlsFiles | None = None,
    ) -> None:
        self._where = where
        self._located = located = locate(where)
        cluster = located.cluster if isinstance(located, Known) else None
        self._operator = operator
        self._token = token
        self._security = client_security(cluster, tls, operator=operator)
        self._cluster_id = ""
        """Of the cluster that was found."""
        self.timeout_s = check_timeout_s(timeout_s)
        self._exactly_once = exactly_once
        self._options = options or ClientOptions()
        self._notified = notified
        self._clock = clock
        self._rng = fresh_rng()
        self._last_call = 0
        self._closed = False
        self._members_at: Viewstamp | None = None
        """The entry by which the members are those that are known; None: no server said."""
        self.is_parents = False
        """Whether this process is a child of `fork`, and the client its parent's: no call can be made."""
        stays_behind(self)

    def left_behind(self) -> None:
        """Refuse calls: the connections and the session are the parent's (`forks.StaysBehind`)."""
        self._closed = self.is_parents = True

    def _not_open(self) -> NotExecuted:
        if self.is_parents:
            return used_after_fork()
        return NotExecuted("the client is closed or was not started: no call can be made")

    @property
    def is_closed(self) -> bool:
        """Whether it was closed: no call can be made."""
        return self._closed

    def _named_besides(self, links: Mapping[NodeId, AddressedLink], server: NodeId) -> MembersChanged | None:
        """Return the known members with those that this server's welcome names besides; None: there are none.

        A welcome adds and never takes away: a server that was cut off may name members of long ago. Only what
        servers say of a change ends a link.
        """
        if (self._operator and self._security.secret is not None) or server not in links:
            return None  # a server without the secret could name itself as any member, and pass on the proof
        besides = [member for member in links[server].named if member[0] not in links]
        known = [(int(node), *link.address) for node, link in links.items()]
        return MembersChanged([*known, *besides], self._members_at) if besides else None

    def _places(self, links: Iterable[AddressedLink]) -> list[Address]:
        """Return where to ask who the members are, when none of those that were known can be reached.

        What the user wrote, read again if it is a file, and where the members were.
        """
        try:
            located = locate(self._where)
        except ConfigurationError:
            located = self._located
        written = list(located.addresses.values()) if isinstance(located, Known) else located
        return list(dict.fromkeys([*written, *(link.address for link in links)]))

    def _is_news(self, message: MembersChanged) -> bool:
        """Note the word of a server about the members; return whether to follow it.

        A new member that still executes old entries names the members of that time. A client that followed
        would leave those that serve. A word without a position is followed: it comes from a server that was
        asked because none of those known could be reached.
        """
        if message.at is not None and self._members_at is not None and message.at < self._members_at:
            return False
        self._members_at = message.at
        return True

    def _make_core(self, known: Known) -> ClientCore:
        self._cluster_id = known.cluster_id
        return ClientCore(
            ClientSetup(
                servers=tuple(sorted(known.addresses)),
                secret=fresh_secret(),
                rng=self._rng,
                now=self._clock(),
                options=self._options,
                exactly_once=self._exactly_once,
                write_routing="any" if known.write_routing == "any" else "leader",
            )
        )

    def _greeting(self, server: NodeId) -> Greeting:
        """Return the hello for a server, or what makes it for each connection."""
        return self._security.greet_server(
            self._cluster_id, server, operator=self._operator, token=self._token
        )

    def _next_call(self) -> CallId:
        self._last_call += 1
        return CallId(self._last_call)

    def _deadline_in(self, timeout_s: float | None, now: Instant) -> Instant:
        return Instant(now + int((self.timeout_s if timeout_s is None else timeout_s) * 1e6))

    def _deliver(self, effect: Deliver) -> None:
        if self._notified is not None:
            self._notified(effect.payload)

    def _no_server(self, troubles: Mapping[Address, str]) -> NotExecuted:
        where = "; ".join(f"{format_address(address)}: {trouble}" for address, trouble in troubles.items())
        return NotExecuted(f"no server answered within {self.timeout_s:g} s: {where}")


def session_ms(seconds: float) -> int:
    """Return a session's time to live in milliseconds.

    Raises:
        ConfigurationError: it is out of range.
    """
    if not 0 <= number(seconds, "session_s") <= TIME_TO_LIVE_MAX_MS / 1000:
        raise ConfigurationError(
            f"a session cannot live {seconds} s: give seconds, or 0 for the cluster's own"
        )
    return math.ceil(seconds * 1000)


def with_session(options: ClientOptions | None, session_s: float | None) -> ClientOptions:
    """Return the options, with this time to live of the session where one is given."""
    options = options or ClientOptions()
    if session_s is None:
        return options
    return msgspec.structs.replace(options, session_time_to_live_ms=session_ms(session_s))


_ANYBODY: Final = client_hello("", None)


def make_asker(rng: Random, hello: Greeting = _ANYBODY) -> Dialer:
    """Return a link that only asks an address which server it belongs to."""
    return Dialer(hello, CLIENT, CLIENT_LIMITS, rng)


def hurry_others(links: Mapping[NodeId, ServerLink], gone: NodeId) -> None:
    """A server went away: another may be about to lead, perhaps one that was away and is back. Dial those."""
    for server, link in links.items():
        if server != gone:
            link.hurry()


def hurry_leader(links: Mapping[NodeId, ServerLink], message: ServerMessage) -> None:
    """Dial the leader that a server names, if it is away."""
    if isinstance(message, Redirect) and message.leader is not None and message.leader in links:
        links[message.leader].hurry()


def refusals_of(links: Mapping[NodeId, ServerLink]) -> dict[NodeId, str]:
    """Return why each server refuses this client, where it does."""
    return {server: link.refusal for server, link in links.items() if link.refusal}


_FAILURES: Final[dict[str, type[CallError]]] = {
    "not_executed": NotExecuted,
    "invalid": InvalidCall,
    "denied": PermissionDenied,
    "session_expired": SessionExpired,
    "unknown": OutcomeUnknown,
}


class Errors:
    """The exceptions that a machine has declared in its class: `raises = (NoKey, VersionMismatch)`."""

    __slots__ = ("_declared",)

    def __init__(self, machine: type[StateMachine] | None) -> None:
        self._declared: dict[str, type[Exception]] = {}
        if machine is not None:
            self._declare([machine, *machine.parts.values()])

    def _declare(self, machines: Iterable[type[StateMachine]]) -> None:
        for machine in machines:
            for declared in getattr(machine, "raises", ()):
                self._declared[declared.__name__] = declared

    def make(self, raised: Raised, method: str = "") -> Exception:
        """Return the machine's own exception if it was declared, and `CommandFailed` otherwise."""
        declared = self._declared.get(raised.kind)
        if declared is not None:
            try:
                return declared(raised.explanation)
            except TypeError:
                pass  # it wants other arguments than a text: the caller gets the general form
        return CommandFailed(raised.kind, raised.explanation, method=method)


NO_ERRORS: Final = Errors(None)


def failure_of(outcome: Raised | Failed, errors: Errors, method: str = "") -> Exception:
    """Return the exception that tells the caller of this outcome, with what it may act on as data."""
    if isinstance(outcome, Raised):
        return errors.make(outcome, method)
    if outcome.denial is not None:
        denial = outcome.denial
        return PermissionDenied(
            outcome.reason,
            method=method or denial.method,
            principal=denial.principal,
            missing=denial.missing,
            key=denial.key,
        )
    if outcome.overloaded:
        return Overloaded(outcome.reason, outcome.overloaded, method=method)
    kind = _FAILURES[outcome.outcome]
    return kind(outcome.reason, unreachable=outcome.unreachable, silent=outcome.silent, method=method)


def with_refusals(outcome: Outcome, refusals: Mapping[NodeId, str]) -> Outcome:
    """Return the outcome; without a result it says as well which servers refuse us, and why.

    To the core such a server is one that cannot be reached. The caller has to know that it can be, and
    that waiting does not help: the cluster file is another cluster's, or too many are connected.
    """
    said = {why: [node for node in refusals if refusals[node] == why] for why in refusals.values() if why}
    if not said or not isinstance(outcome, Failed):
        return outcome
    told = "; ".join(f"{names(nodes)} refused this client: {why}" for why, nodes in said.items())
    return msgspec.structs.replace(outcome, reason=f"{outcome.reason}; {told}")


def result_of(outcome: Outcome, method: Method | None, errors: Errors = NO_ERRORS) -> Any:
    """Return the result, decoded by the method or, without one, as it came; raise what else it was.

    Raises:
        NotExecuted, InvalidCall, PermissionDenied, OutcomeUnknown, CommandFailed, or an exception that the
        machine declared.
    """
    if not isinstance(outcome, Returned):
        raise failure_of(outcome, errors, "" if method is None else method.name)
    if method is None:
        return outcome.payload
    try:
        return method.decode_result(outcome.payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise OutcomeUnknown(
            f"{method.name} was executed, but its result is not of the declared type: {error}",
            method=method.name,
        ) from error

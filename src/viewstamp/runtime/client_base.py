"""What the two clients have in common: how a cluster is found, what a call is, when servers are dialled."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Final, Protocol

from viewstamp.core.errors import NotExecuted
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.messages import Redirect, ServerMessage
from viewstamp.link.dialer import Dialer, DialLimits
from viewstamp.link.framing import CLIENT
from viewstamp.link.handshake import client_hello
from viewstamp.replica.client.client import ClientCore
from viewstamp.replica.client.setup import ClientSetup
from viewstamp.replica.events import CallId, Deliver
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.addresses import Address, format_address
from viewstamp.runtime.config import KIB, MIB
from viewstamp.runtime.discovery import Known, Where, locate
from viewstamp.runtime.system import Clock, check_timeout_s, fresh_rng, fresh_secret

CLIENT_LIMITS: Final = DialLimits(
    hello_bytes_max=16 * KIB,
    frame_bytes_max=64 * MIB,
    send_bytes_max=64 * MIB,
    dial_timeout_ms=2_000,
    backoff_min_ms=20,
    backoff_max_ms=1_000,
)
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
    ) -> None:
        self._located = locate(where)
        self.timeout_s = check_timeout_s(timeout_s)
        self._exactly_once = exactly_once
        self._options = options or ClientOptions()
        self._notified = notified
        self._clock = clock
        self._rng = fresh_rng()
        self._last_call = 0
        self._closed = False

    def _make_core(self, known: Known) -> ClientCore:
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


def make_asker(rng: Random) -> Dialer:
    """Return a link that only asks an address which server it belongs to."""
    return Dialer(client_hello("", None), CLIENT, CLIENT_LIMITS, rng)


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

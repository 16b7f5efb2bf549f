"""What a replica says to clients: where each is reached, and results, redirects and notifications for them.

`Responses` collects the messages of one step behind its other effects. `ClientAddresses` knows over which
connection a client is reached and which clients wait here for a command: they are redirected when another
node leads.
"""

from collections.abc import Iterable
from operator import itemgetter
from typing import Final

import msgspec

from viewstamp.core.ids import ClientAddress, NodeId
from viewstamp.core.messages import (
    DENIED,
    Identify,
    Logged,
    Notified,
    QueryRequest,
    Redirect,
    Results,
    ServerMessage,
    Submit,
)
from viewstamp.machine.access import Denial
from viewstamp.machine.context import Notification
from viewstamp.replica.answers import SESSION_LINE, Answers, ResultLine
from viewstamp.replica.batches import DecodedMessage
from viewstamp.replica.events import ReplicaEffect, Respond
from viewstamp.replica.options import ReplicaOptions
from viewstamp.replica.refusals import denial_payload, refuse_all
from viewstamp.replica.replicated_state import ReplicatedState
from viewstamp.replica.sessions import Sessions

UNIDENTIFIED: Final = "this connection does not speak for that client: identify first"
OF_ANOTHER: Final = "the session of that client belongs to another principal: not identified"
DOES_NOT_FIT: Final = "the secret is not that of this client: not identified"


class ClientAddresses:
    """Clients by number, each bound to the connection that showed its secret last.

    One connection may speak for several clients, within a limit; nothing is forgotten to make room.
    """

    __slots__ = ("_addresses", "_clients", "_clients_max", "_per_connection_max", "arrived", "waiting")

    def __init__(self, options: ReplicaOptions) -> None:
        self._clients_max = options.clients_max
        self._per_connection_max = options.clients_per_connection_max
        self._addresses: dict[int, ClientAddress] = {}
        self._clients: dict[ClientAddress, set[int]] = {}
        """Inverse of `_addresses`: no set is empty."""
        self.waiting: set[int] = set()
        """Clients whose commands were taken in here since the last redirect; all are in `_addresses`."""
        self.arrived: set[int] = set()
        """Clients that appeared, or came back over another connection, since this was last emptied."""

    def __len__(self) -> int:
        return len(self._addresses)

    def bind(self, client: int, source: ClientAddress) -> str:
        """Let this connection speak for the client. Return why not; empty: it does.

        The caller has seen the client's secret. A connection that spoke for the client before does no longer.
        """
        before = self._addresses.get(client)
        if before == source:
            return ""
        if before is None and len(self._addresses) >= self._clients_max:
            return f"this node knows {self._clients_max} clients already (clients_max)"
        if len(self._clients.get(source, ())) >= self._per_connection_max:
            most = self._per_connection_max
            return f"this connection speaks for {most} clients already (clients_per_connection_max)"
        self._forget(client)
        self._addresses[client] = source
        self._clients.setdefault(source, set()).add(client)
        self.arrived.add(client)
        assert len(self._addresses) <= self._clients_max, len(self._addresses)
        return ""

    def address_of(self, client: int) -> ClientAddress | None:
        """Return the connection of this client; None where it has none here."""
        return self._addresses.get(client)

    def gone(self, source: ClientAddress) -> None:
        """Forget a connection that was closed."""
        for client in tuple(self._clients.get(source, ())):
            self._forget(client)

    def idle(self) -> list[tuple[int, ClientAddress]]:
        """Return the clients that do not wait for commands, with their connections."""
        return [item for item in self._addresses.items() if item[0] not in self.waiting]

    def all_arrive(self) -> None:
        """Treat every client as one that just came: this replica leads now."""
        self.arrived.update(self._addresses)

    def _forget(self, client: int) -> None:
        source = self._addresses.pop(client, None)
        if source is None:
            return
        self.waiting.discard(client)
        self.arrived.discard(client)
        clients = self._clients[source]
        clients.discard(client)
        if not clients:
            del self._clients[source]


OVERLOADED: Final = "the server is overloaded"
RESULTS_BYTES_MAX: Final = 1 << 20
"""Of one message of results, unless a single one is larger."""
LINE_BYTES: Final = 32
"""What a line takes beside its payload, at most."""
_PAYLOAD: Final = itemgetter(2)


class Responses:
    """Writes answers for clients behind the other effects of a step."""

    __slots__ = ("addresses", "answers", "effects", "refused")

    def __init__(self, addresses: ClientAddresses) -> None:
        self.refused = 0
        """Calls that were refused since the start because a limit was reached."""
        self.addresses = addresses
        self.effects: list[ReplicaEffect] = []
        """Of the current step, in order. The replica takes them at its end."""
        self.answers = Answers()
        """What the entries applied in this step mean for clients; sent as one message to each at its end."""

    def say(self, source: ClientAddress, message: ServerMessage) -> None:
        """Send one message."""
        self.effects.append(Respond(source, message))

    def lines(self, source: ClientAddress, client: int, position: int, lines: list[ResultLine]) -> None:
        """Send how calls ended, in as many messages as it takes."""
        for part in _split(lines):
            self.effects.append(Respond(source, Results(client, position, part)))

    def refuse(self, source: ClientAddress, message: Submit, position: int, reason: str) -> None:
        """Say for each call of a message that this attempt will never be executed."""
        self.refused += len(message.calls)
        self.lines(source, message.client, position, refuse_all(message.calls, reason))

    def deny(self, source: ClientAddress, message: Logged, position: int, denial: Denial) -> None:
        """Say that a client's principal may have no session."""
        self.lines(source, message.client, position, [(SESSION_LINE, DENIED, denial_payload(denial))])

    def turn_back(self, decoded: DecodedMessage, leader: NodeId | None, position: int, reason: str) -> None:
        """Say that this message is not taken now: its calls are refused.

        Where it has none, its client is sent away, and asks again here or elsewhere.
        """
        message = decoded.message
        if isinstance(message, Submit):
            self.refuse(decoded.source, message, position, reason)
        else:
            self.redirect(decoded, leader, reason)

    def redirect(self, waiting: DecodedMessage, leader: NodeId | None, reason: str) -> None:
        """Say that a message did not enter the log here."""
        message = waiting.message
        redirect = Redirect(message.client, leader, False, _sequences_of(message), reason)
        self.say(waiting.source, redirect)

    def identify(self, source: ClientAddress, message: Identify, sessions: Sessions, principal: str) -> None:
        """Let a connection speak for the client whose secret came over it, or say why not."""
        if not message.fits:
            refusal = DOES_NOT_FIT
        elif sessions.is_of_another(message.client, principal):
            refusal = OF_ANOTHER
        else:
            refusal = self.addresses.bind(message.client, source)
        if refusal:
            self.turn_away(source, message, refusal)

    def turn_away(
        self, source: ClientAddress, message: Logged | QueryRequest | Identify, reason: str
    ) -> None:
        """Say over the connection that a message came by that it had no effect, and why."""
        calls = message.calls if isinstance(message, Submit | QueryRequest) else []
        sequences = [sequence for sequence, _ in calls]
        self.say(source, Redirect(message.client, None, False, sequences, reason))

    def redirect_entered(self, messages: Iterable[DecodedMessage], leader: NodeId | None) -> None:
        """Say that messages entered the log here, and that another leader decides whether they stay."""
        reason = "the leader changed before the entry was committed"
        for decoded in messages:
            message = decoded.message
            source = self.addresses.address_of(message.client)
            if source is not None:
                self.say(source, Redirect(message.client, leader, True, _sequences_of(message), reason))

    def send_away(self, leader: NodeId | None, state: ReplicatedState) -> None:
        """Tell clients with a session, which wait for nothing but notifications, who leads now."""
        for client, source in self.addresses.idle():
            if state.sessions.of_client(client) is not None:
                self.say(source, Redirect(client, leader, False, [], "another node leads"))

    def notify(self, notification: Notification, state: ReplicatedState) -> None:
        """Deliver a notification, if its client is connected here."""
        address = self.addresses.address_of(notification.client)
        if address is not None:
            session = state.sessions.of_client(notification.client)
            number = 0 if session is None else session.number
            self.say(address, Notified(notification.client, number, msgspec.Raw(notification.payload)))

    def deliver_notifications(self, state: ReplicatedState, *, leads: bool) -> None:
        """Send what the last entry notifies clients of; a follower drops it, for its state may be behind."""
        notifications, self.answers.notifications = self.answers.notifications, []
        if leads:
            for notification in notifications:
                self.notify(notification, state)

    def repeat_notifications(self, state: ReplicatedState) -> None:
        """Send again to clients that just came what the machine says they may have missed."""
        arrived = self.addresses.arrived
        for notification in state.runner.pending_notifications(arrived):
            self.notify(notification, state)
        arrived.clear()

    def say_answers(self) -> None:
        """Send the results of the entries applied in this step, to those clients that are connected here."""
        answers, self.answers = self.answers, Answers()
        address_of = self.addresses.address_of
        for opened in answers.opened:
            address = address_of(opened.client)
            if address is not None:
                self.say(address, opened)
        for client, lines in answers.lines.items():
            address = address_of(client)
            if address is not None and lines:
                self.lines(address, client, answers.positions[client], lines)


def _split(lines: list[ResultLine]) -> list[list[ResultLine]]:
    """Return the lines in parts, none of which makes a message that is too large to send."""
    # To join them is a fifth of the price of asking each for its length.
    if len(lines) == 1 or len(lines) * LINE_BYTES + len(b"".join(map(_PAYLOAD, lines))) <= RESULTS_BYTES_MAX:
        return [lines]
    parts: list[list[ResultLine]] = []
    part: list[ResultLine] = []
    room = 0
    for line in lines:
        size = LINE_BYTES + len(memoryview(line[2]))
        room -= size
        if room < 0:
            part = []
            parts.append(part)
            room = RESULTS_BYTES_MAX - size
        part.append(line)
    return parts


def _sequences_of(message: Logged) -> list[int]:
    return [sequence for sequence, _ in message.calls] if isinstance(message, Submit) else []

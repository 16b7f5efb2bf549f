"""Replicas that differ are found and judged by the majority: the odd one out stops, also when it leads.

Two digests are compared. That of *results* is chained by each replica (`digest_chain.DigestChain`); the
leader writes its own into each batch, so that a replica that differs notices at the next entry. That of the
*state* is made at agreed entries (`ReplicaOptions.state_check_every`), and at each that raises versions,
where migrations run; it is sent to the other members.

Rules of this file:

- a replica that sees a digest that differs from its own *doubts*: it applies entries, but it answers no
  client and proposes nothing until it knows which digest a majority of the members has;
- one that has another digest than a majority is *odd*: it hands leadership over, if it leads, and halts;
- where no digest has a majority, all that differ doubt, and say so in their status: none may go on;
- a digest in a log that is replayed has no voter: it may be that of a leader that was odd and stopped, or
  the class was changed on all members. The replica goes on where a later digest in the log or a member that
  does not doubt agrees with it, and halts where all members doubt alike.

Votes may be lost: a replica that doubts asks again. Nothing is sent while nobody differs, except the digests
of states, which a member that can be reached again is told once more. While a replica doubts, it makes no
snapshot: a start without one executes the disputed entries again, and compares them again.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, Protocol, Union

import msgspec

from viewstamp.core.effects import Send
from viewstamp.core.events import PeerDown, PeerUp, Received
from viewstamp.core.ids import Instant, NodeId
from viewstamp.core.messages import Logged, OperatorReply, QueryRequest, Redirect, Submit
from viewstamp.core.quorum import majority
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_digest import digest_of_pieces
from viewstamp.replica.batches import DecodedBatch
from viewstamp.replica.events import (
    DigestVote,
    DiskReport,
    DiskReported,
    Kind,
    Notice,
    ReplicaEffect,
    Respond,
    StateHashed,
    Voted,
)
from viewstamp.replica.options import NEVER
from viewstamp.replica.recent_commands import MESSAGES_KEPT, RecentCommands
from viewstamp.replica.replicated_state import ReplicatedState

ASK_AGAIN_US: Final = 200_000
"""How often a replica that doubts asks the others."""
HAND_OVER_US: Final = 2_000_000
"""How long an odd leader waits for another one to lead before it halts."""
HELD_MAX: Final = 16_384
"""Answers to clients that are held while a replica doubts; more are dropped, and clients ask again."""
POSITIONS_KEPT: Final = 64
"""Positions whose votes are remembered: those touched last."""
STATES_KEPT: Final = 64
"""Own digests of states that are remembered: the newest."""
DIGESTS_SHOWN: Final = 8
"""Of these, in a status."""


def peer_message_type(message_type: Any) -> Any:
    """Return the type of all that members send to each other, where the protocol sends `message_type`."""
    return Union[message_type, DigestVote, DiskReport]  # noqa: UP007  an alias of a union may come in


class StateHasher(Protocol):
    """Makes digests of states at a bounded cost: at once, or beside the work."""

    def due(self, seqno: int) -> bool:
        """Return whether the state is to be hashed at this agreed entry."""
        ...

    def begin(self, seqno: int, pieces: Iterator[bytes]) -> int | None:
        """Return the digest of the pieces, or None: a `StateHashed` comes later, or none does.

        When this returns, the machine may change.
        """
        ...


class InlineHasher:
    """Hashes every state at once."""

    __slots__ = ()

    def due(self, seqno: int) -> bool:  # noqa: ARG002
        """Return True."""
        return True

    def begin(self, seqno: int, pieces: Iterator[bytes]) -> int | None:  # noqa: ARG002
        """Return the digest of the pieces; None where the state cannot be encoded."""
        try:
            return digest_of_pieces(pieces)
        except Exception:  # noqa: BLE001  a snapshot will say what is wrong with the state
            return None


class Doubt(msgspec.Struct, frozen=True):
    """What differs, since which position, and where it was seen."""

    kind: Kind
    seqno: int
    replayed: bool
    """Whether it was seen in a log that this replica had written before it started."""
    commands: str
    """The last commands up to there, for the operator."""


class Divergence:
    """Compares one replica's digests with those of the other members, and judges."""

    __slots__ = (
        "_ask_at",
        "_ends_at",
        "_every",
        "_hasher",
        "_held",
        "_members",
        "_node",
        "_odd",
        "_replayed",
        "_state",
        "_states",
        "_votes",
        "busy",
        "doubt",
        "notices",
        "outgoing",
        "recent",
        "verdict",
        "waiting",
    )

    def __init__(
        self,
        node: NodeId,
        *,
        definition: MachineDefinition,
        replayed: int,
        state: Callable[[], ReplicatedState],
        members: Callable[[], tuple[NodeId, ...]],
        hasher: StateHasher | None,
        every: int,
    ) -> None:
        """Begin without a doubt. Entries up to `replayed` were in the log when the replica started.

        Each entry whose number is a multiple of `every` is an agreed one; `NEVER`: states are not compared.
        """
        self._node = node
        self._replayed = replayed
        self._state = state
        self._members = members
        self._hasher = hasher or InlineHasher()
        self._every = every
        self.recent = RecentCommands(definition)
        self.doubt: Doubt | None = None
        """Set while this replica does not know whether it or another one is wrong. Read-only for callers."""
        self.verdict: str | None = None
        """Why this replica is the odd one; None: it is not. Read-only for callers."""
        self.waiting: str | None = None
        """Why this replica cannot apply the next entry with the code it has; None: it can. Read-only."""
        self.outgoing: list[tuple[NodeId, DigestVote]] = []
        """What is to be sent. Callers take it."""
        self.notices: list[Notice] = []
        """What the operator must know. Callers take it."""
        self.busy = False
        """Whether there is anything beside comparing: a doubt, a verdict, something to be sent.

        True whenever `withholds` is: the way of a message asks this first.
        """
        self._votes: dict[tuple[Kind, int], dict[NodeId, tuple[int, bool]]] = {}
        """(digest, sure) of the other members by position."""
        self._states: dict[int, int] = {}
        """Own digests of states by position."""
        self._odd: set[NodeId] = set()
        """Members that a majority differs from."""
        self._ask_at = Instant(0)
        self._ends_at: Instant | None = None
        """When an odd leader halts, whether another one leads or not."""
        self._held: list[ReplicaEffect] = []
        """Answers to clients that wait for the end of a doubt."""

    @property
    def withholds(self) -> bool:
        """Whether clients are not answered and nothing is proposed."""
        return self.doubt is not None or self.verdict is not None or self.waiting is not None

    @property
    def reason(self) -> str:
        """What clients are told while `withholds`."""
        return "members differ: see the status" if self.waiting is None else "this node needs newer code"

    @property
    def deadline(self) -> Instant:
        """When to call `woke` while `withholds`."""
        return self._ask_at

    def describe(self) -> str:
        """Return why this replica does not serve, in one line; empty where it does."""
        if self.verdict is not None:
            return self.verdict
        if self.waiting is not None:
            return self.waiting
        doubt = self.doubt
        if doubt is None:
            return ""
        digests = ", ".join(self._accounts(doubt.kind, doubt.seqno))
        return (
            f"members differ in {_words(doubt.kind)} up to entry {doubt.seqno} ({digests}) and no digest has "
            f"a majority yet; this node serves no client and makes no snapshot until one has: start the "
            f"members that are down; if all are up, start those that run another class with the right one; "
            f"if they differ with the same class, see docs/how-to/a-replica-that-differs.md. {doubt.commands}"
        )

    # What a replica does because of it

    def filtered(self, effects: list[ReplicaEffect]) -> list[ReplicaEffect]:
        """Return what may leave now: answers to clients are held while this replica doubts."""
        if self.withholds:
            kept = [effect for effect in effects if not _answers_client(effect)]
            room = HELD_MAX - len(self._held)
            self._held += [effect for effect in effects if _answers_client(effect)][:room]
            effects = kept
        elif self._held:
            effects, self._held = self._held + effects, []
        effects += [Send(to, vote) for to, vote in self.outgoing]
        effects += self.notices
        self.outgoing, self.notices = [], []
        self.busy = self.withholds
        return effects

    def must_hand_over(self, leader: NodeId | None, now: Instant) -> bool:
        """Return that this replica leads and cannot serve: another member should lead. Not twice at once."""
        if self.verdict is None and self.waiting is not None and now >= (self._ends_at or now):
            self._ends_at = None  # it waits, and leads again
        if (
            (self.verdict is None and self.waiting is None)
            or leader != self._node
            or self._ends_at is not None
            or not self._others()
        ):
            return False
        self._ends_at = self._ask_at = Instant(now + HAND_OVER_US)
        return True

    def ended(self, leader: NodeId | None, now: Instant) -> str | None:
        """Return why this replica must halt now; None: it need not, or it waits for another leader."""
        if self.verdict is None:
            return None
        waits = leader == self._node and self._ends_at is not None and now < self._ends_at
        return None if waits else self.verdict

    def wait(self, reason: str, now: Instant) -> None:
        """Serve nobody until this node is started with newer code, and tell the operator why."""
        self.waiting = reason
        self._ask_at = Instant(now + ASK_AGAIN_US)
        self._notice(reason, "versions")

    # What is compared

    def contradicted(self, seqno: int, entry_seqno: int, now: Instant) -> None:
        """Record that the entry at `entry_seqno` holds another digest of results than this replica's."""
        if self.doubt is None and self.verdict is None:
            self._begin("results", seqno, replayed=entry_seqno <= self._replayed, now=now)
            self._judge("results", seqno)

    def agreed(self, seqno: int) -> None:
        """Record that a later entry holds this replica's digest at `seqno`: another leader agreed with it."""
        doubt = self.doubt
        if doubt is not None and doubt.replayed and doubt.kind == "results" and seqno >= doubt.seqno:
            self._resolve("a later leader had the same")

    def executed(self, seqno: int, batch: DecodedBatch, now: Instant) -> None:
        """Record an entry that was executed; hash the state at an agreed one if the cost allows it.

        One that raises versions is hashed whatever it costs: a migration changes everything at once.
        """
        self.recent.entries.append((seqno, batch.messages[:MESSAGES_KEPT]))
        raises = batch.declares is not None and batch.declares.raises and self._every != NEVER
        if raises or (seqno % self._every == 0 and self._hasher.due(seqno)):
            self._hash_now(now)

    def on_event(self, event: StateHashed | Voted, now: Instant) -> None:
        """Take in a digest: one of this replica's state, or what another member says."""
        if isinstance(event, Voted):
            self.on_vote(event.source, event.vote, now)
        else:
            self.hashed(event.seqno, event.digest, now)

    def on_link(self, event: PeerUp | PeerDown) -> None:
        """Tell a member that can be reached now what it may have missed: all do when they start together."""
        if isinstance(event, PeerUp) and event.peer in self._others():
            for seqno, digest in self.digests:
                self._send(event.peer, "state", seqno, digest, asks=False)

    def hashed(self, seqno: int, digest: int | None, now: Instant) -> None:
        """Take in the digest of the state at `seqno`, tell the others, and compare."""
        if digest is None:
            return
        self._states[seqno] = digest
        while len(self._states) > STATES_KEPT:
            del self._states[next(iter(self._states))]
        for member in self._others():
            self._send(member, "state", seqno, digest, asks=False)
        self._judge("state", seqno, now)

    def on_vote(self, source: NodeId, vote: DigestVote, now: Instant) -> None:
        """Take in what another member says of its digest; answer if it asks."""
        if vote.kind == "state" and vote.schema != self._schema():
            return
        key = (vote.kind, vote.seqno)
        votes = self._votes.pop(key, {})
        votes[source] = (vote.digest, vote.sure)
        self._votes[key] = votes  # as the newest
        while len(self._votes) > POSITIONS_KEPT:
            del self._votes[next(iter(self._votes))]
        if vote.asks and vote.kind == "state" and vote.seqno == self._state().applied.seqno:
            self._hash_now(now)
        own = self._own(vote.kind, vote.seqno)
        if own is None:
            return
        if vote.asks:
            self._send(source, vote.kind, vote.seqno, own, asks=False)
        if own != vote.digest or self.doubt is not None or source in self._odd:
            self._judge(vote.kind, vote.seqno, now)

    def woke(self, now: Instant) -> None:
        """Ask again, if it is time."""
        doubt = self.doubt
        if now < self._ask_at or (doubt is None and self.waiting is None):
            return
        self._ask_at = Instant(now + ASK_AGAIN_US)
        if doubt is None:
            return
        self._ask(doubt.kind, doubt.seqno)
        latest = self._state().applied.seqno
        if doubt.kind == "state" and latest not in self._states:
            self._hash_now(now)
        if latest != doubt.seqno:
            self._ask(doubt.kind, latest)
        self._judge(doubt.kind, doubt.seqno)
        self._judge(doubt.kind, latest)

    # The judgement

    def _judge(self, kind: Kind, seqno: int, now: Instant | None = None) -> None:
        """Compare the digests known at one position; a doubt may begin only where `now` is given."""
        own = self._own(kind, seqno)
        if own is None or self.verdict is not None:
            return
        members = self._members()
        votes = self._votes.get((kind, seqno), {})
        digests = {node: digest for node, (digest, _) in votes.items() if node in members}
        if self._node in members:
            digests[self._node] = own
        if not digests:
            return
        digest, supporters = Counter(digests.values()).most_common(1)[0]
        if supporters < majority(len(members)):
            if now is not None and any(d != own and node not in self._odd for node, d in digests.items()):
                self._begin(kind, seqno, replayed=False, now=now)
        elif digest != own:
            self._condemn(kind, seqno)
        else:
            self._confirmed(kind, seqno, own, digests)

    def _begin(self, kind: Kind, seqno: int, *, replayed: bool, now: Instant) -> None:
        if self.doubt is None:
            self.doubt = Doubt(kind, seqno, replayed, self.recent.describe(seqno))
            self._ask_at = Instant(now + ASK_AGAIN_US)
            self._notice(self.describe())
            self._ask(kind, seqno)

    def _condemn(self, kind: Kind, seqno: int) -> None:
        accounts = ", ".join(self._accounts(kind, seqno))
        self.verdict = (
            f"its {kind} up to entry {seqno} differ from those of a majority ({accounts}): "
            f"is the class the same? deterministic? {self.recent.describe(seqno)}"
        )
        self.doubt = None
        self.busy = True

    def _confirmed(self, kind: Kind, seqno: int, own: int, digests: dict[NodeId, int]) -> None:
        """A majority has this replica's digest: name those that have another, and end the doubt."""
        for node, digest in digests.items():
            if digest == own:
                self._odd.discard(node)
            elif node not in self._odd:
                self._odd.add(node)
                self._notice(
                    f"node {node} differs from a majority of the members in {_words(kind)} up to entry "
                    f"{seqno} and must stop ({', '.join(self._accounts(kind, seqno))}): "
                    f"{self.recent.describe(seqno)}"
                )
        doubt = self.doubt
        if doubt is None or doubt.kind != kind or seqno < doubt.seqno:
            return
        votes = self._votes.get((kind, seqno), {})
        supported = any(sure for node, (digest, sure) in votes.items() if digest == own and node in digests)
        if not doubt.replayed or supported or any(digest != own for digest in digests.values()):
            self._resolve("a majority has the same")
        elif self._state().applied.seqno >= self._replayed:
            self.verdict = (
                f"its results up to entry {doubt.seqno} differ from the leader's that wrote the log, and "
                f"those of all other members do as well: the class was changed on all; {doubt.commands}"
            )
            self.doubt = None

    def _resolve(self, why: str) -> None:
        doubt = self.doubt
        assert doubt is not None
        self.doubt = None
        self._notice(
            f"this node's {doubt.kind} up to entry {doubt.seqno} were in doubt and are right ({why}); "
            "it serves again"
        )

    # Helpers

    def _schema(self) -> int:
        """Of what is in force: states are compared by what it defines, whatever else their classes have."""
        return self._state().runner.in_force.digest

    def _own(self, kind: Kind, seqno: int) -> int | None:
        return self._state().chain.at(seqno) if kind == "results" else self._states.get(seqno)

    def hash_state(self, now: Instant) -> None:
        """Hash the state as it is now, because an operator asks."""
        self._hash_now(now)

    @property
    def digests(self) -> tuple[tuple[int, int], ...]:
        """The newest own digests of states: (seqno, digest)."""
        return tuple(sorted(self._states.items())[-DIGESTS_SHOWN:])

    def _hash_now(self, now: Instant) -> None:
        state = self._state()
        seqno = state.applied.seqno
        if seqno not in self._states:
            self.hashed(
                seqno,
                self._hasher.begin(seqno, state.runner.in_force.digest_pieces(state.runner.machine)),
                now,
            )

    def _others(self) -> list[NodeId]:
        return [member for member in self._members() if member != self._node]

    def _ask(self, kind: Kind, seqno: int) -> None:
        own = self._own(kind, seqno)
        if own is not None:
            for member in self._others():
                self._send(member, kind, seqno, own, asks=True)

    def _send(self, to: NodeId, kind: Kind, seqno: int, digest: int, *, asks: bool) -> None:
        self.outgoing.append((to, DigestVote(kind, seqno, digest, not self.withholds, asks, self._schema())))
        self.busy = True

    def _notice(self, text: str, about: Literal["difference", "versions"] = "difference") -> None:
        self.notices.append(Notice(text, about))
        self.busy = True

    def _accounts(self, kind: Kind, seqno: int) -> Iterator[str]:
        """Yield what each member says, in the order of their ids."""
        known = {node: digest for node, (digest, _) in self._votes.get((kind, seqno), {}).items()}
        own = self._own(kind, seqno)
        if own is not None:
            known[self._node] = own
        for member in sorted({*self._members(), self._node}):
            digest = known.get(member)
            yield f"node {member}: " + ("not heard" if digest is None else f"{digest:016x}")


def _words(kind: Kind) -> str:
    return "their results" if kind == "results" else "their state"


def _answers_client(effect: ReplicaEffect) -> bool:
    return type(effect) is Respond and not isinstance(effect.message, OperatorReply | Redirect)


def sent_away(message: QueryRequest | Logged, reason: str) -> Redirect:
    """Return the answer of a replica that does not serve: nothing was executed, another member may."""
    calls = message.calls if isinstance(message, Submit | QueryRequest) else []
    numbers = [number for number, _ in calls]
    return Redirect(message.client, None, False, numbers, reason)


def peer_event(source: NodeId, message: Any) -> Received | Voted | DiskReported:
    """Return the event of a message that another member sent: the protocol's own, or one beside it."""
    kind = type(message)
    if kind is DigestVote:
        return Voted(source, message)
    return DiskReported(source, message) if kind is DiskReport else Received(source, message)

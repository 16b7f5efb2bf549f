"""One Raft node of three, woken in the state that a test needs; the other two are played by the test."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.protocols.raft.harness import Cluster
from viewstamp.core.events import Received
from viewstamp.core.ids import Incarnation, NodeId, PersistSeq, Viewstamp
from viewstamp.core.judge import DurableImage
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.journal import HardState, Marker
from viewstamp.protocols.raft.judge.oracle import RaftOracle
from viewstamp.protocols.raft.messages import (
    AppendEntries,
    AppendRejected,
    AppendResponse,
    RequestVote,
    VoteResponse,
)
from viewstamp.protocols.replication.configuration import Configuration, first_configuration
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, encode_record

ME = NodeId(1)
BOOTSTRAP = first_configuration({NodeId(number): Incarnation(100 * number) for number in (1, 2, 3)})


def entry(term: int, seqno: int, data: bytes = b"", kind: int = COMMAND) -> EntryRecord:
    return EntryRecord(term, seqno, kind, data or b"%d.%d" % (term, seqno))


def records(*entries: EntryRecord) -> list[bytes]:
    return [encode_record(each) for each in entries]


class _PlayedOthers(RaftOracle):
    """The other disks are the test's: it says by its messages what they hold."""

    def committed_by(self, viewstamp: Viewstamp, images: Mapping[NodeId, DurableImage]) -> bool:
        return True


class Lone:
    """Node 1 with its disk. What it sends is taken by `sent`."""

    def __init__(
        self,
        terms: Sequence[int] = (),
        *,
        term: int = 0,
        vote: int | None = None,
        entries: Sequence[EntryRecord] = (),
        configuration: Configuration = BOOTSTRAP,
        size: int = 3,
        options: RaftOptions | None = None,
    ) -> None:
        """Start with a log of one command for each of `terms`, or of `entries`."""
        log = list(entries) or [entry(each, seqno) for seqno, each in enumerate(terms, start=1)]
        term = max([term, 1, *(each.view for each in log)])
        self.cluster = Cluster(size, options=options, start=False)
        self.cluster.oracle = _PlayedOthers(self.cluster.members)
        self.disk = self.cluster.nodes[ME].disk
        hard_state = HardState(term, None if vote is None else NodeId(vote))
        beginning = (encode_record(hard_state), encode_record(Marker(0, 0, 0, configuration)))
        self.disk.pending.append((PersistSeq(1), beginning))
        if log:
            self.disk.pending.append((PersistSeq(2), tuple(records(*log))))
        self.disk.sync()
        self.core = self.cluster.start(ME)
        self.sent()

    @property
    def state(self) -> Any:
        return self.core.state

    def receive(self, source: int, message: Any) -> list[Any]:
        """Deliver a message and return what was sent since."""
        self.cluster.feed(ME, Received(NodeId(source), message))
        return self.sent()

    def sent(self) -> list[Any]:
        taken = [letter.message for letter in self.cluster.letters]
        self.cluster.letters.clear()
        return taken

    def sent_of(self, kind: type) -> list[Any]:
        return [message for message in self.sent() if isinstance(message, kind)]

    def append(self, source: int, before: tuple[int, int], *entries: EntryRecord, **given: int) -> list[Any]:
        """Deliver `AppendEntries` of the leader `source` of term `term` (by default the current one)."""
        term = given.get("term", self.state.term)
        message = AppendEntries(
            term=term,
            to=Incarnation(100),
            previous_view=before[0],
            previous_seqno=before[1],
            entries=records(*entries),
            committed=given.get("committed", 0),
            round=given.get("round", 0),
            attempt=given.get("attempt", 0),
        )
        return self.receive(source, message)

    def wait(self) -> list[Any]:
        """Let time pass to the deadline, and return what was sent."""
        deadline = self.core.deadline
        assert deadline is not None
        self.cluster.now = max(self.cluster.now, deadline)
        self.cluster.wake(ME)
        return self.sent()

    def campaign(self) -> RequestVote:
        """Time out and win the pre-vote; return the request for votes."""
        (request, *_) = [message for message in self.wait() if isinstance(message, RequestVote)]
        assert request.pre
        sent = self.receive(2, self.grant(2, request))
        (request, *_) = [message for message in sent if isinstance(message, RequestVote)]
        assert not request.pre
        return request

    def grant(self, source: int, request: RequestVote) -> VoteResponse:
        term = request.term - request.pre
        return VoteResponse(
            term=term,
            incarnation=Incarnation(100 * source),
            candidate=ME,
            election=request.term,
            pre=request.pre,
            granted=True,
            campaign=request.campaign,
        )

    def lead(self) -> list[Any]:
        """Become leader with the vote of node 2; return the first messages."""
        request = self.campaign()
        sent = self.receive(2, self.grant(2, request))
        assert self.state.leader == ME
        return sent

    def acknowledge(self, source: int, seqno: int, round_: int = 0, incarnation: int = 0) -> list[Any]:
        """Let a follower say that it has everything up to `seqno`."""
        view = self.state.log.view_at(seqno)
        assert view is not None
        life = Incarnation(incarnation or 100 * source)
        return self.receive(
            source,
            AppendResponse(
                term=self.state.term,
                incarnation=life,
                matched_view=view,
                matched_seqno=seqno,
                round=round_,
                reached=0,
            ),
        )


def request(term: int, last: tuple[int, int], *, pre: bool = False, campaign: int = 1) -> RequestVote:
    return RequestVote(
        term=term, pre=pre, transfer=False, campaign=campaign, last_log_term=last[0], last_log_index=last[1]
    )


def granted(messages: list[Any]) -> list[VoteResponse]:
    return [message for message in messages if isinstance(message, VoteResponse) and message.granted]


def refuse(node: Lone, refused: int, hint: tuple[int, int], attempt: int | None = None) -> list[Any]:
    """Let node 2 refuse entries after `refused`, by default of the leader's present attempt."""
    now = node.core.replication.progress[NodeId(2)].attempt
    present = now if attempt is None else attempt
    return node.receive(
        2,
        AppendRejected(
            term=node.state.term,
            incarnation=Incarnation(200),
            refused_seqno=refused,
            hint_view=hint[0],
            hint_seqno=hint[1],
            round=0,
            attempt=present,
        ),
    )


def last_request(node: Lone) -> RequestVote:
    state, election = node.state, node.core.election
    return RequestVote(
        term=state.term,
        pre=False,
        transfer=False,
        campaign=election._campaign,
        last_log_term=state.log.last_view,
        last_log_index=state.log.last_seqno,
    )

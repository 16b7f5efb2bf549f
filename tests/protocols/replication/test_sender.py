"""What a leader sends to one follower after another, and what it makes of the answers."""

from typing import NamedTuple

import pytest

from tests.mutants.lone import Lone
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.raft.messages import AppendRejected, AppendResponse
from viewstamp.protocols.raft.state import State
from viewstamp.protocols.replication.sender import Progress, Sender

TWO = Incarnation(200)


class Sent(NamedTuple):
    """Entries after a position."""

    previous: int
    view: int
    entries: int


class Bench:
    """A sender with a log of six entries, terms 1 1 2 2 3 3, and the one follower it sends to."""

    def __init__(self) -> None:
        self.state: State = Lone([1, 1, 2, 2, 3, 3]).state
        self.sent: list[Sent] = []
        self.sender = Sender(self.state, self._append, self._chunk)
        self.progress = Progress(NodeId(2), TWO, 7)

    def _append(self, progress: Progress, view: int, previous: int, entries: list[bytes]) -> None:
        self.sent.append(Sent(previous, view, len(entries)))

    def _chunk(self, progress: Progress, meta: SnapshotMeta, offset: int, data: bytes) -> None:
        raise AssertionError("nothing is compacted here")

    def refuse(self, refused: int, hint: tuple[int, int], attempt: int) -> None:
        self.sender.on_refused(
            self.progress,
            AppendRejected(
                term=3,
                incarnation=TWO,
                refused_seqno=refused,
                hint_view=hint[0],
                hint_seqno=hint[1],
                round=0,
                attempt=attempt,
            ),
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def response(view: int, seqno: int, *, incarnation: int = 200, number: int = 0) -> AppendResponse:
    return AppendResponse(
        term=3,
        incarnation=Incarnation(incarnation),
        matched_view=view,
        matched_seqno=seqno,
        round=number,
        reached=seqno,
    )


def test_heartbeat_is_placed_after_everything_sent(bench: Bench) -> None:
    bench.sender.send_heartbeat(bench.progress)
    assert bench.sent == [Sent(6, 3, 0)]


def test_sender_goes_back_a_term_at_a_time_when_the_logs_part(bench: Bench) -> None:
    bench.refuse(6, (2, 9), attempt=0)
    assert bench.sent == [Sent(4, 2, 2)], (
        "the follower has entries of term 2 beyond ours: after our last of it"
    )
    bench.refuse(4, (1, 1), attempt=1)
    assert bench.sent[1:] == [Sent(1, 1, 5)]
    assert bench.progress.attempt == 2


def test_refusal_when_it_is_of_a_message_sent_before_is_dropped(bench: Bench) -> None:
    bench.refuse(6, (2, 4), attempt=0)
    bench.refuse(6, (1, 1), attempt=0)
    assert len(bench.sent) == 1
    assert bench.state.counters["rejection of an earlier message"] == 1


def test_probe_when_it_is_unanswered_is_the_only_message_with_entries(bench: Bench) -> None:
    bench.refuse(6, (2, 4), attempt=0)
    bench.sender.pump(bench.progress)
    assert len(bench.sent) == 1
    assert bench.sender.on_acknowledged(bench.progress, response(3, 6))
    assert (bench.progress.state, bench.progress.matched) == ("replicate", 6)


def test_acknowledgement_when_its_entry_is_not_here_is_not_counted(bench: Bench) -> None:
    assert not bench.sender.on_acknowledged(bench.progress, response(2, 6))
    assert not bench.sender.on_acknowledged(bench.progress, response(3, 7))
    assert bench.progress.matched == 0
    assert bench.state.counters["acknowledgement of an entry that is not here"] == 2


def test_answer_when_it_is_of_another_incarnation_or_round_is_not_believed(bench: Bench) -> None:
    believed = bench.sender.believed
    assert believed(bench.progress, response(3, 6), 0) is bench.progress
    assert believed(None, response(3, 6), 0) is None
    assert believed(bench.progress, response(3, 6, incarnation=201), 0) is None
    assert believed(bench.progress, response(3, 6, number=1), 0) is None


def test_window_when_the_connection_broke_is_a_probe_again(bench: Bench) -> None:
    bench.progress.replicate(4)
    bench.sender.pump(bench.progress)
    assert (bench.sent, bench.progress.next) == ([Sent(4, 2, 2)], 7)
    bench.sender.on_peer_down(bench.progress)
    assert (bench.progress.state, bench.progress.inflight_bytes) == ("probe", 0)

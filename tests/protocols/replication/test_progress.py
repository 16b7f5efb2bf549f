"""What a leader knows of one follower, and how much it may send."""

import pytest

from viewstamp.core.ids import Incarnation, Instant, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.replication.node_state import ReplicationOptions
from viewstamp.protocols.replication.sender import Progress, peer_status


@pytest.fixture
def progress() -> Progress:
    return Progress(NodeId(2), Incarnation(200), 5)


def test_status_when_a_follower_was_never_heard_says_so(progress: Progress) -> None:
    assert progress.heard_since(Instant(7)) == 7
    assert peer_status(progress, Instant(50)).heard_us_ago is None
    progress.heard_at = Instant(30)
    assert progress.heard_since(Instant(7)) == 30
    status = peer_status(progress, Instant(50), state="synchronous")
    assert (status.heard_us_ago, status.state) == (20, "synchronous")


def test_probe_when_an_older_answer_comes_stays_a_probe(progress: Progress) -> None:
    assert (progress.state, progress.next) == ("probe", 5)
    assert not progress.is_found(reached=3, base=0)
    assert progress.is_found(reached=4, base=0)
    progress.replicate(4)
    assert (progress.state, progress.next) == ("replicate", 5)


def test_window_when_a_follower_went_back_grows_with_each_acknowledgement(progress: Progress) -> None:
    options = ReplicationOptions(inflight_messages_max=2)
    progress.probe(3)
    progress.replicate(2)
    progress.sent(3, 10)
    assert not progress.has_room(options), "one message at a time after going back"
    assert progress.acknowledge(3)
    progress.sent(4, 10)
    assert progress.has_room(options)
    progress.sent(5, 10)
    assert not progress.has_room(options)


def test_window_when_its_bytes_are_under_way_is_closed(progress: Progress) -> None:
    options = ReplicationOptions(inflight_bytes_max=20)
    progress.replicate(4)
    progress.sent(5, 20)
    assert not progress.has_room(options)
    assert progress.acknowledge(5)
    assert (progress.has_room(options), progress.inflight_bytes) == (True, 0)


def test_acknowledgement_when_it_is_old_changes_nothing(progress: Progress) -> None:
    progress.replicate(4)
    assert progress.acknowledge(7)
    assert not progress.acknowledge(6)
    assert (progress.matched, progress.next) == (7, 8)


def test_probe_when_it_tries_before_what_is_matched_stays_behind_it(progress: Progress) -> None:
    progress.replicate(4)
    progress.acknowledge(7)
    attempt = progress.attempt
    progress.probe(2)
    assert (progress.next, progress.attempt) == (8, attempt + 1)


def test_snapshot_when_it_is_installed_is_known_by_what_is_matched(progress: Progress) -> None:
    snapshot = BytesSnapshot(Viewstamp(View(1), Seqno(9)), b"", b"machine")
    assert not progress.has_snapshot()
    progress.send_snapshot(snapshot)
    assert (progress.state, progress.has_snapshot()) == ("snapshot", False)
    progress.acknowledge(9)
    assert progress.has_snapshot()
    assert progress.is_found(reached=9, base=9)
    assert not progress.is_found(reached=9, base=10), "the log has moved on: another snapshot must follow"
    progress.replicate(9)
    assert progress.transfer is None

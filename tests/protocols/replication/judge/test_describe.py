"""What protocols with a log say alike; whole stories are in the transcripts of each."""

from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import BytesSnapshot
from viewstamp.protocols.raft.messages import AppendEntries, SnapshotAck, SnapshotChunk
from viewstamp.protocols.replication.judge import describe as wording

LIFE = Incarnation(100)


def test_members_when_there_are_none_are_no_node() -> None:
    assert wording.name_members(()) == "no node"
    assert wording.name_members([(NodeId(1), LIFE)]) == "1 (incarnation 100)"


def test_append_when_it_has_no_entries_is_a_heartbeat() -> None:
    told = [
        wording.describe_append(
            AppendEntries(
                term=2,
                to=LIFE,
                previous_view=1,
                previous_seqno=5,
                entries=[b""] * count,
                committed=4,
                round=0,
                attempt=0,
            )
        )
        for count in range(3)
    ]
    assert told == [
        "heartbeat after 1.5, committed 4",
        "1 entry follows 1.5, committed 4",
        "2 entries follow 1.5, committed 4",
    ]


def test_snapshot_when_a_piece_comes_or_is_wanted_is_told_by_its_bytes() -> None:
    meta = BytesSnapshot(Viewstamp(View(1), Seqno(5)), b"", b"0123456789").meta
    chunk = SnapshotChunk(term=2, to=LIFE, meta=meta, offset=4, data=b"4567")
    assert wording.describe_chunk(chunk) == "snapshot 1.5, bytes 4 to 8 of 10"
    wanted = [
        wording.describe_ack(
            SnapshotAck(term=2, incarnation=LIFE, view=1, seqno=5, digest=0, offset=8, gap=gap)
        )
        for gap in (False, True)
    ]
    assert wanted[0] == "of snapshot 1.5 I want what begins at byte 8"
    assert wanted[1] == f"{wanted[0]}, that was not the next piece"

"""The bytes of messages and records are an ABI: they may grow at the end, and never change."""

import msgspec
import pytest

from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.raft import RaftMessage
from viewstamp.protocols.raft import journal as r
from viewstamp.protocols.raft import messages as m
from viewstamp.protocols.raft.judge.describe import describe
from viewstamp.protocols.replication.configuration import Configuration
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, Truncation, encode_record

ME = Incarnation(7)
ALONE = Configuration(((NodeId(1), ME),))
META = SnapshotMeta(Viewstamp(View(2), Seqno(3)), b"h", 9, 5)

GOLDEN = [
    (
        m.RequestVote(term=5, pre=True, transfer=False, campaign=2, last_log_term=4, last_log_index=9),
        "9801 05 c3 c2 02 04 09 00",
    ),
    (
        m.VoteResponse(
            term=5, incarnation=ME, candidate=NodeId(1), election=6, pre=True, granted=False, campaign=2
        ),
        "9802 05 07 01 06 c3 c2 02",
    ),
    (
        m.AppendEntries(
            term=5, to=ME, previous_view=4, previous_seqno=9, entries=[b"e"], committed=8, round=3, attempt=1
        ),
        "9903 07 04 09 91c40165 08 03 01 05",
    ),
    (
        m.AppendResponse(term=5, incarnation=ME, matched_view=4, matched_seqno=9, round=3, reached=0),
        "9704 07 03 04 09 00 05",
    ),
    (
        m.AppendRejected(
            term=5, incarnation=ME, refused_seqno=9, hint_view=3, hint_seqno=7, round=3, attempt=1
        ),
        "9805 07 03 09 03 07 01 05",
    ),
    (
        m.SnapshotChunk(term=5, to=ME, meta=META, offset=4, data=b"d"),
        "9606 07 97 920203 c40168 09 05 01 01 01 04 c40164 05",
    ),
    (
        m.SnapshotAck(term=5, incarnation=ME, view=2, seqno=3, digest=5, offset=4, gap=True),
        "9807 07 02 03 05 04 c3 05",
    ),
    (m.ReadIndex(term=5, request=11), "9308 05 0b"),
    (m.ReadIndexAnswer(term=5, request=11, index=None), "9409 05 0b c0"),
    (m.TimeoutNow(term=5, to=ME), "930a 05 07"),
    (m.Introduce(incarnation=ME, bootstrapped=False, known=((NodeId(1), ME),)), "950b 07 c2 91 920107 90"),
    (m.Recognize(5, ALONE), "930c 05 96 91920107 90 90 90 90 90"),
    (m.StaleTerm(5), "920d 05"),
    (m.Dismissed(term=5, incarnation=ME, view=2, seqno=3), "950e 05 07 02 03"),
]
RECORDS = [
    (r.HardState(5, NodeId(2)), "9301 05 02"),
    (r.HardState(5, None), "9301 05 c0"),
    (EntryRecord(5, 9, COMMAND, b"e"), "9502 05 09 01 c40165"),
    (Truncation(4), "9203 04"),
    (r.Marker(2, 3, 8, ALONE), "9504 02 03 08 96 91920107 90 90 90 90 90"),
]


def name(case: object) -> str:
    return type(case).__name__


@pytest.mark.parametrize(("message", "encoded"), GOLDEN, ids=name)
def test_message_when_it_is_encoded_has_the_bytes_it_always_had(message: object, encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert msgspec.msgpack.encode(message) == data
    assert msgspec.msgpack.Decoder(RaftMessage).decode(data) == message


def test_introduction_of_an_older_version_counts_when_it_is_read() -> None:
    old = bytes.fromhex("940b 07 c2 91 920107")
    expected = m.Introduce(incarnation=ME, bootstrapped=False, known=((NodeId(1), ME),), agreed=())
    assert msgspec.msgpack.Decoder(RaftMessage).decode(old) == expected


@pytest.mark.parametrize(("record", "encoded"), RECORDS, ids=name)
def test_record_when_it_is_encoded_has_the_bytes_it_always_had(record: r.Record, encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert encode_record(record) == data
    assert r.decode_record(data) == record


@pytest.mark.parametrize(("message", "encoded"), GOLDEN, ids=name)
def test_message_when_it_is_told_is_one_line(message: object, encoded: str) -> None:
    told = describe(message)
    assert told
    assert "\n" not in told


def test_thing_when_it_is_no_message_is_told_as_that() -> None:
    assert describe(3) == "something that is not a raft message: int"

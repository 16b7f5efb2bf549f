"""The bytes of messages and records are an ABI: they may grow at the end, and never change."""

import msgspec
import pytest

from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.raft import RaftMessage
from viewstamp.protocols.raft import journal as r
from viewstamp.protocols.raft import messages as m
from viewstamp.protocols.raft.judge.describe import describe
from viewstamp.protocols.raft.membership import Configuration
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, Truncation, encode_record

ME = Incarnation(7)
ALONE = Configuration(((NodeId(1), ME),))
META = SnapshotMeta(Viewstamp(View(2), Seqno(3)), b"h", 9, 5)

GOLDEN = [
    (m.RequestVote(5, True, False, 2, 4, 9), "9701 05 c3 c2 02 04 09"),
    (m.Vote(5, ME, NodeId(1), 6, True, False, 2), "9802 05 07 01 06 c3 c2 02"),
    (m.AppendEntries(5, ME, 4, 9, [b"e"], 8, 3, 1), "9903 05 07 04 09 91c40165 08 03 01"),
    (m.Appended(5, ME, 4, 9, 3), "9704 05 07 04 09 03 00"),
    (m.Conflict(5, ME, 9, 3, 7, 3, 1), "9805 05 07 09 03 07 03 01"),
    (m.SnapshotChunk(5, ME, META, 4, b"d"), "9606 05 07 94 920203 c40168 09 05 04 c40164"),
    (m.SnapshotWanted(5, ME, 2, 3, 5, 4, True), "9807 05 07 02 03 05 04 c3"),
    (m.ReadIndex(5, 11), "9308 05 0b"),
    (m.ReadIndexAnswer(5, 11, None), "9409 05 0b c0"),
    (m.TimeoutNow(5, ME), "930a 05 07"),
    (m.Introduce(ME, False, ((NodeId(1), ME),)), "940b 07 c2 91 920107"),
    (m.Recognize(5, ALONE), "930c 05 93 91920107 90 90"),
]
RECORDS = [
    (r.HardState(5, NodeId(2)), "9301 05 02"),
    (r.HardState(5, None), "9301 05 c0"),
    (EntryRecord(5, 9, COMMAND, b"e"), "9502 05 09 01 c40165"),
    (Truncation(4), "9203 04"),
    (r.Marker(2, 3, 8, ALONE), "9504 02 03 08 93 91920107 90 90"),
]


def name(case: object) -> str:
    return type(case).__name__


@pytest.mark.parametrize(("message", "encoded"), GOLDEN, ids=name)
def test_message_when_it_is_encoded_has_the_bytes_it_always_had(message: object, encoded: str) -> None:
    data = bytes.fromhex(encoded)
    assert msgspec.msgpack.encode(message) == data
    assert msgspec.msgpack.Decoder(RaftMessage).decode(data) == message


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
    assert describe(3) == "something that is no raft message: int"

"""The wire and the journal: tags and shapes are an ABI."""

import hashlib
from typing import Any, get_args

import msgspec
import pytest

from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.replication.log import COMMAND, EntryRecord
from viewstamp.protocols.viewstamped import journal as records
from viewstamp.protocols.viewstamped import messages
from viewstamp.protocols.viewstamped.membership import Member, first_view_of

FIRST = first_view_of(Member(NodeId(1), Incarnation(7)))
GROUP = Incarnation(7)
BALLOT = messages.Ballot(3, NodeId(2))
HERE = Viewstamp(View(2), Seqno(9))
PART = messages.StagedPart(HERE, 5, 6)
META = SnapshotMeta(HERE, b"h", 6, 5)

EXAMPLES: list[Any] = [
    messages.Prepare(GROUP, View(2), BALLOT),
    messages.Prepared(GROUP, View(2), BALLOT, BALLOT, None, None, True),
    messages.Accept(GROUP, View(2), BALLOT, FIRST),
    messages.Accepted(GROUP, View(2), BALLOT, BALLOT),
    messages.Views(GROUP, (FIRST,), View(1)),
    messages.WantViews(GROUP, View(1)),
    messages.Ping(GROUP, View(1), GROUP, (), heard=False),
    messages.Pong(GROUP, View(1), GROUP),
    messages.Join(messages.NO_GROUP, Member(NodeId(2), GROUP), View(0)),
    messages.BootstrapQuery(GROUP),
    messages.NotBootstrapped(GROUP),
    messages.Append(GROUP, View(2), HERE, (b"x",), Seqno(3)),
    messages.Appended(GROUP, View(2), HERE),
    messages.Position(GROUP, View(2), (HERE,), PART),
    messages.Chunk(GROUP, View(2), META, 0, b"abcdef"),
    messages.ChunkReceived(GROUP, View(2), PART),
    messages.Probe(GROUP, View(2), 4),
    messages.Probed(GROUP, View(2), 4),
]
RECORDS: list[Any] = [
    records.Promised(View(2), BALLOT),
    EntryRecord(View(2), Seqno(9), COMMAND, b"data"),
    records.AcceptedValue(View(2), BALLOT, FIRST),
    records.Decided(FIRST),
    records.Synchronised(View(2)),
    records.LogStart(HERE),
    records.LogReset(HERE),
    records.History((FIRST,)),
]


def test_every_message_has_its_tag_when_encoded() -> None:
    tags = [msgspec.msgpack.decode(msgspec.msgpack.encode(each))[0] for each in EXAMPLES]
    assert tags == list(range(1, 19))
    assert {type(each) for each in EXAMPLES} == set(get_args(messages.Message))


def test_every_record_has_its_tag_when_encoded() -> None:
    tags = [msgspec.msgpack.decode(records.ENCODER.encode(each))[0] for each in RECORDS]
    assert tags == list(range(1, 9))
    assert {type(each) for each in RECORDS} == set(get_args(records.Record))


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda each: type(each).__name__)
def test_messages_come_back_when_decoded(message: Any) -> None:
    decoder = msgspec.msgpack.Decoder(messages.Message)
    assert decoder.decode(msgspec.msgpack.encode(message)) == message


@pytest.mark.parametrize("record", RECORDS, ids=lambda each: type(each).__name__)
def test_records_come_back_when_decoded(record: Any) -> None:
    assert records.RECORDS.decode(records.ENCODER.encode(record)) == record


def test_messages_of_an_older_version_count_when_they_are_read() -> None:
    old = msgspec.msgpack.encode([7, GROUP, 1, GROUP, []])
    ping = msgspec.msgpack.Decoder(messages.Message).decode(old)
    assert ping == messages.Ping(GROUP, View(1), GROUP, (), heard=True)
    question = msgspec.msgpack.encode([10, GROUP])
    assert msgspec.msgpack.Decoder(messages.Message).decode(question) == messages.BootstrapQuery(GROUP)
    answer = msgspec.msgpack.encode([11, GROUP])
    assert msgspec.msgpack.Decoder(messages.Message).decode(answer) == messages.NotBootstrapped(GROUP)


def test_the_bytes_are_those_of_this_version() -> None:
    encoded = b"".join(map(msgspec.msgpack.encode, [*EXAMPLES, *RECORDS]))
    digest = hashlib.sha256(encoded).hexdigest()
    assert digest == "0b8d20a75359c8231ab11ded5bd7240648f247ea5fd4cd98050868247147a42d"

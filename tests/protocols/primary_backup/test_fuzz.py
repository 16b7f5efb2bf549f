"""Well-formed messages of arbitrary values: nothing is raised, and nothing that counts is believed."""

from random import Random
from typing import Any, get_args

import msgspec
import pytest

from tests.protocols.primary_backup.course_world import CourseWorld
from tests.protocols.primary_backup.fenced_world import bootstrapped
from viewstamp.core.events import Received
from viewstamp.core.ids import ORIGIN, Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.primary_backup import COURSE, DEFINITION
from viewstamp.protocols.primary_backup.course.messages import CourseMessage
from viewstamp.protocols.primary_backup.journal import SyncRecord
from viewstamp.protocols.primary_backup.messages import AppendEntries, FencedMessage
from viewstamp.protocols.replication.configuration import Changed, Configuration
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, encode_record
from viewstamp.protocols.replication.messages import Member

NUMBERS = (-(1 << 63), -2, -1, 0, 1, 2, 3, 4, 5, 9, 1 << 31, (1 << 53) + 1, (1 << 63) - 1)


def value(rng: Random, kind: Any) -> Any:
    """Return something of this type, often at its border."""
    text = str(kind)
    if kind is bool:
        return rng.random() < 0.5
    if kind is bytes:
        return rng.choice((b"", b"x", b"\x00" * 40))
    if "SyncRecord" in text:
        return None if "None" in text and rng.random() < 0.5 else _record(rng)
    if "SnapshotMeta" in text:
        stamp = Viewstamp(View(rng.choice(NUMBERS)), Seqno(rng.choice(NUMBERS)))
        return SnapshotMeta(rng.choice((ORIGIN, stamp)), b"", rng.choice(NUMBERS), rng.choice(NUMBERS) & 0xFF)
    if "list[bytes]" in text:
        return [_entry(rng) for _ in range(rng.randrange(4))]
    if "Viewstamp" in text:
        return _viewstamp(rng)
    if text == "tuple[viewstamp.core.ids.NodeId, ...]":
        return tuple(rng.sample((1, 2, 3, 7, -1), rng.randrange(4)))
    if "tuple" in text:
        return tuple(
            (NodeId(rng.choice(NUMBERS)), Incarnation(rng.choice(NUMBERS))) for _ in range(rng.randrange(4))
        )
    if "str" in text:
        return rng.choice((None, "", "no\x1b[2J"))
    if "Incarnation" in text:
        return rng.choice((100, 200, 300, 0, 1 << 62))
    return rng.choice(NUMBERS)


def _entry(rng: Random) -> bytes:
    if rng.random() < 0.2:
        return b"no entry"
    numbers = (rng.choice(NUMBERS), rng.choice(NUMBERS), rng.choice((COMMAND, 0, 7)))
    return encode_record(EntryRecord(*numbers, b"forged"))


def _record(rng: Random) -> SyncRecord:
    members = tuple(NodeId(rng.randrange(-1, 4)) for _ in range(rng.randrange(5)))
    roster = tuple(
        (NodeId(node), Incarnation(rng.choice((100, 200, 300)))) for node in range(rng.randrange(5))
    )
    numbers = rng.choice(NUMBERS), rng.choice(NUMBERS)
    changed = Changed(_configuration(rng, roster), _viewstamp(rng)) if rng.random() < 0.5 else None
    return SyncRecord(*numbers, NodeId(rng.randrange(-1, 4)), members, roster, changed)


def _configuration(rng: Random, roster: tuple[Member, ...]) -> Configuration:
    parts = [tuple(member for member in roster if rng.random() < 0.5) for _ in range(3)]
    nodes = tuple(node for node, _ in roster if rng.random() < 0.3)
    removed = tuple((*member, _viewstamp(rng)) for member in roster if rng.random() < 0.2)
    return Configuration(parts[0], parts[1], nodes, parts[2], tuple(zip(nodes, nodes, strict=True)), removed)


def _viewstamp(rng: Random) -> Viewstamp:
    return Viewstamp(View(rng.choice(NUMBERS)), Seqno(rng.choice(NUMBERS)))


def forged(rng: Random, union: Any) -> Any:
    """Return a message that its own decoder takes."""
    kind = rng.choice(get_args(union))
    hints = msgspec.structs.fields(kind)
    return kind(**{field.name: value(rng, field.type) for field in hints})


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_raised_and_nothing_committed_is_lost_when_a_fenced_member_lies(seed: int) -> None:
    rng = Random(seed)
    world = bootstrapped(3)
    world.write(0, b"a", b"b")
    codec = msgspec.msgpack.Decoder(DEFINITION.message_type)
    # A forged AppendEntries of the present epoch could be the primary's own. No node is asked to withstand
    # what a crash-faulty peer cannot have sent: so the liar is not primary, and lies to a backup of node 0.
    for _ in range(300):
        message = forged(rng, FencedMessage)
        if isinstance(message, AppendEntries) and message.epoch > 1:
            continue
        decoded = codec.decode(msgspec.msgpack.encode(message))
        source = NodeId(rng.choice((1, 7, -1)))
        core = world.core(2)
        core.step(Received(source, decoded), world.now)
        assert world.oracle.describe(decoded)
    state = world.core(2).state
    assert [state.log.entry(seqno).data for seqno in (2, 3)] == [b"a", b"b"]
    assert state.committed <= state.log.last_seqno


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_raised_and_nothing_committed_is_lost_when_a_server_of_the_course_lies(seed: int) -> None:
    rng = Random(seed)
    world = CourseWorld(3)
    world.write(0, b"a", b"b", b"c")
    codec = msgspec.msgpack.Decoder(COURSE.message_type)
    for _ in range(300):
        decoded = codec.decode(msgspec.msgpack.encode(forged(rng, CourseMessage)))
        world.core(2).step(Received(NodeId(rng.choice((1, 7, -1))), decoded), world.now)
        assert world.oracle.describe(decoded)
    assert world.logs()[2][:2] == [b"a", b"b"]
    core = world.core(2)
    assert core.committed_index <= core.last_index


@pytest.mark.parametrize("definition", [COURSE, DEFINITION])
def test_bytes_are_refused_by_the_decoder_alone_when_they_are_no_message(definition: Any) -> None:
    rng = Random(4)
    decoder = msgspec.msgpack.Decoder(definition.message_type)
    union = CourseMessage if definition is COURSE else FencedMessage
    for _ in range(500):
        payload = bytearray(msgspec.msgpack.encode(forged(rng, union)))
        payload[rng.randrange(len(payload))] ^= 1 << rng.randrange(8)
        try:
            message = decoder.decode(bytes(payload))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        again = decoder.decode(msgspec.msgpack.encode(message))
        assert again == message

"""A message whose term, epoch, view or ballot is far beyond anything is refused in each protocol.

Each honest core is fed half of a conversation, then one of its messages again with a number that no member
can have reached. A core that took it would leave the others no higher number.
"""

from typing import Any

import msgspec
import pytest
from fuzz.sequences import FROM_OTHER, Player, conversation, unpacked

from tests.protocols.primary_backup.course_world import CourseWorld
from tests.protocols.viewstamped.harness import cluster_of
from viewstamp.core.effects import Stage
from viewstamp.core.events import Received
from viewstamp.core.ids import NodeId, Seqno, Viewstamp
from viewstamp.core.protocol import ProtocolDefinition
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.primary_backup.course.messages import Greet
from viewstamp.protocols.registry import PROTOCOL_NAMES, protocol_definition
from viewstamp.protocols.replication.node_state import LEAP_MAX, POSITION_LEAP_MAX, leaps
from viewstamp.protocols.viewstamped.messages import Chunk
from viewstamp.sim.cluster.hostile import with_leap

ENCODE = msgspec.msgpack.Encoder().encode


def rewritten(definition: ProtocolDefinition, change: Any) -> list[tuple[Player, int, bytes]]:
    """Each message of a conversation, changed, with the core that is about to get it."""
    decode = msgspec.msgpack.Decoder(definition.message_type).decode
    found = []
    for script in conversation(definition, 12):
        events = list(unpacked(script))
        for at, (operation, payload) in enumerate(events):
            if operation > FROM_OTHER:
                continue
            changed = change(decode(payload))
            if changed is None:
                continue
            player = Player(definition, 1 + script[0] % 3)
            for event in events[:at]:
                player.do(*event)
            if player.core.view > 0:
                found.append((player, operation, ENCODE(changed)))
    return found


def numbers(player: Player) -> list[int]:
    """The number of the view, and the highest ballot promised for the next one."""
    views = getattr(player.core, "views", None)
    seen = getattr(getattr(player.core, "state", None), "seen_epoch", 0)
    return [player.core.view, seen, 0 if views is None else views.acceptor.promised.number]


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
@pytest.mark.parametrize("far", [LEAP_MAX + 100, 1 << 45, 1 << 52])
def test_message_changes_no_number_when_its_own_is_far_beyond(name: str, far: int) -> None:
    cases = rewritten(protocol_definition(name), lambda message: with_leap(message, far))
    assert len(cases) > 10
    for player, operation, payload in cases:
        before = numbers(player)
        player.do(operation, payload)
        assert max(after - old for after, old in zip(numbers(player), before, strict=True)) <= 1, payload


@pytest.mark.parametrize("name", ["raft", "primary_backup"])
def test_message_is_believed_when_its_number_is_just_within_reach(name: str) -> None:
    """So that the refusals above are those of the limit."""
    cases = rewritten(protocol_definition(name), lambda message: with_leap(message, 1 << 19))
    risen = 0
    for player, operation, payload in cases:
        before = player.core.view
        player.do(operation, payload)
        risen += player.core.view >= before + (1 << 19)
    assert risen > 0


def test_snapshot_is_not_begun_when_it_ends_far_beyond_the_log() -> None:
    """In raft and primary_backup: `tests/protocols/raft/test_snapshot.py`."""
    cluster = cluster_of(1, 2, 3)
    primary = cluster.primary
    assert primary is not None
    cluster.write("a")
    (backup, *_) = [node for node in (1, 2, 3) if node != primary]
    core = cluster.core(backup)
    for beyond, begun in ((POSITION_LEAP_MAX + 9, False), (1 << 30, True)):
        meta = SnapshotMeta(Viewstamp(core.view, Seqno(core.positions.log.last_seqno + beyond)), b"", 9, 7)
        chunk = Chunk(core.group, core.view, meta, 0, b"x")
        effects = core.step(Received(NodeId(primary), chunk), core._state.now)
        assert any(isinstance(effect, Stage) for effect in effects) is begun


def test_takeover_is_refused_in_the_course_form_when_it_is_far_beyond() -> None:
    world = CourseWorld(3)
    world.write(0, b"a")
    server = world.core(1)
    before = server.takeover
    world.feed(1, Received(NodeId(2), Greet((1 << 40) + before + 1, 2, 0, 0, 0)))
    assert server.takeover == before
    world.feed(1, Received(NodeId(2), Greet((1 << 40) + before, 2, 0, 0, 0)))
    assert server.takeover == (1 << 40) + before


def test_number_is_no_leap_when_a_node_has_nothing_of_its_own() -> None:
    assert not leaps(1 << 50, 0)
    assert leaps(LEAP_MAX + 2, 1)
    assert not leaps(LEAP_MAX + 1, 1)

"""A member that sends what no member sends: its connection is closed, and nobody else notices.

Members are trusted to follow the protocol. What they need not be trusted with is the form of what they say.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec
import pytest
from fuzz.sequences import SYNC, Player, conversation, facts, packed, unpacked

from tests.border.conftest import MakeVictim
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import UNREADABLE
from viewstamp.protocols.registry import PROTOCOL_NAMES, protocol_definition
from viewstamp.sim.workloads.hostile_frames import Frame, peer_grammar
from viewstamp.sim.workloads.hostile_values import encode_tree, nested_arrays, places, replaced
from viewstamp.storage.files import OsFileSystem
from viewstamp.storage.inspect import inspect_identity
from viewstamp.testkit.hostile_wire import Attacker, member_prover

VICTIM = NodeId(3)
FRAMES = 300
MESSAGES_PER_SCRIPT = 60
DEEP = 990


def unreadable(protocol: str) -> Iterator[Frame]:
    """Frames of every kind that no member of this protocol can read."""
    union = protocol_definition(protocol).message_type
    decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(union)
    for frame in peer_grammar(5, union, facts=facts()).every_fault():
        if "unknown field" in frame.name:
            continue  # can be read where the stack has room for it
        try:
            decoder.decode(frame.payload)
        except UNREADABLE:
            yield frame


@pytest.mark.process
def test_frames_that_are_no_messages_close_the_connection(attack: MakeVictim, protocol: str) -> None:
    victim = attack()
    assert victim.dead() == {}
    files, path = OsFileSystem(), str(victim.group.servers[VICTIM].data)
    incarnation = inspect_identity(files, path).identity.incarnation
    victim.group.servers[VICTIM].kill()
    cluster = victim.group.cluster
    others = [node for node in cluster.node_ids if node != VICTIM]
    for number, frame in enumerate(islice(unreadable(protocol), 0, None, 7)):
        if number == FRAMES:
            break
        to = others[number % 2]
        hello = member_prover(cluster, VICTIM, to, incarnation)
        with Attacker(cluster.addresses[to], hello=hello) as member:
            assert member.welcomed
            member.send(frame.data)
            assert member.ended(), frame.name
    assert set(victim.dead()) == {VICTIM}
    victim.group.start()
    victim.assert_serves()
    victim.assert_unharmed()


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_records_of_any_depth_in_a_message_raise_nothing(name: str) -> None:
    definition = protocol_definition(name)
    for script in conversation(definition):
        events = list(unpacked(script))
        messages = [
            at for at, (operation, payload) in enumerate(events) if operation < 2 and b"entry" in payload
        ]
        for at in messages[:MESSAGES_PER_SCRIPT:4]:
            for payload in with_deep_records(events[at][1]):
                before = b"".join(packed(*event) for event in events[:at])
                player = Player(definition, 1 + script[0] % 3)
                player.play(script[:1] + before)
                player.do(events[at][0], payload)
                player.do(SYNC, b"")


def with_deep_records(payload: bytes) -> Iterator[bytes]:
    """The message with one of its records nested deeper than any decoder's stack."""
    tree = msgspec.msgpack.decode(payload)
    for path in places(tree):
        value = tree
        for key in path:
            value = value[key]
        if isinstance(value, bytes) and value[:1] >= b"\x90":
            record = msgspec.msgpack.decode(value)
            deeper = encode_tree([*record, msgspec.Raw(nested_arrays(DEEP))])
            yield encode_tree(replaced(tree, path, deeper))

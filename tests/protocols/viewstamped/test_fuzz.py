"""Messages that are typed and make no sense: no core may raise, or change its views, for them.

They are made out of what really travelled, with fields replaced, and of extreme values.
"""

from random import Random
from typing import Any

import msgspec
import pytest

from tests.protocols.viewstamped.harness import Cluster, cluster_of
from tests.protocols.viewstamped.test_messages import EXAMPLES
from viewstamp.core.events import Received
from viewstamp.core.ids import Incarnation, NodeId, Seqno, View, Viewstamp
from viewstamp.core.snapshots import SnapshotMeta
from viewstamp.protocols.replication.log import COMMAND, EntryRecord
from viewstamp.protocols.viewstamped.journal import ENCODER
from viewstamp.protocols.viewstamped.membership import Member, Membership
from viewstamp.protocols.viewstamped.messages import Ballot, Message, StagedPart

_DECODER = msgspec.msgpack.Decoder(Message)
_NUMBERS = (-(2**63), -1, 0, 1, 2, 3, 4, 5, 7, 2**31, 2**62, 2**63 - 1)


def number(rng: Random) -> int:
    return rng.choice(_NUMBERS)


def stamp(rng: Random) -> Viewstamp:
    return Viewstamp(View(number(rng)), Seqno(number(rng)))


def membership(rng: Random) -> Membership:
    members = tuple(
        Member(NodeId(number(rng)), Incarnation(rng.choice((1001, 2001, 3001, number(rng)))))
        for _ in range(rng.randrange(4))
    )
    eligible = tuple(NodeId(number(rng)) for _ in range(rng.randrange(3)))
    return Membership(View(number(rng)), members, eligible, NodeId(number(rng)))


def strange(rng: Random, value: Any, group: Incarnation) -> Any:
    """Return another value of the same type."""
    match value:
        case bool():
            return not value
        case int():
            return rng.choice((group, number(rng)))
        case bytes():
            return rng.randbytes(rng.randrange(6))
        case Ballot():
            return Ballot(number(rng), NodeId(number(rng)))
        case Viewstamp():
            return stamp(rng)
        case Membership():
            return membership(rng)
        case Member():
            return Member(NodeId(number(rng)), Incarnation(number(rng)))
        case SnapshotMeta():
            return SnapshotMeta(stamp(rng), b"", number(rng), rng.getrandbits(60))
        case StagedPart():
            return StagedPart(stamp(rng), number(rng), number(rng))
        case _:
            return value


def items(rng: Random, name: str, value: Any) -> Any:
    """Return another tuple for the fields that hold one."""
    if name == "records":
        entry = EntryRecord(View(number(rng)), Seqno(number(rng)), COMMAND, b"junk")
        return tuple(rng.choice((b"", b"\xc1", ENCODER.encode(entry))) for _ in range(rng.randrange(3)))
    if name == "memberships":
        return tuple(membership(rng) for _ in range(rng.randrange(3)))
    if name == "marks":
        return tuple(stamp(rng) for _ in range(rng.randrange(4)))
    return value


def mangled(rng: Random, message: Any, group: Incarnation) -> Any:
    """Return the message with some of its fields replaced, as it would be decoded; None if it would not."""
    changes: dict[str, Any] = {}
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if name == "group":
            changes[name] = group if rng.random() < 0.9 else value
        elif rng.random() < 0.4:
            changed = items(rng, name, value) if isinstance(value, tuple) else strange(rng, value, group)
            changes[name] = changed
    try:
        encoded = msgspec.msgpack.encode(msgspec.structs.replace(message, **changes))
        return _DECODER.decode(encoded)
    except (msgspec.ValidationError, OverflowError):
        return None


def group_of(cluster: Cluster) -> Incarnation:
    return max(cluster.core(node).group for node in cluster.running)


@pytest.mark.parametrize("seed", range(8))
def test_nobody_raises_when_strangers_send_nonsense(seed: int) -> None:
    """Sources outside the view: nothing that they say may count."""
    rng = Random(seed)
    cluster = cluster_of(1, 2, 3)
    cluster.write("a")
    for _ in range(400):
        real = [message for _, _, message in cluster.sent[-200:]]
        message = mangled(rng, rng.choice([*real, *EXAMPLES]), group_of(cluster))
        # A decided view is believed from any node that shows it; members are trusted not to invent one.
        if message is not None and type(message).__name__ not in {"Views", "Join"}:
            cluster.step(rng.choice((1, 2, 3)), Received(NodeId(9), message))
        cluster.run(1)
    cluster.form(1, 2, 3)
    cluster.write("b")
    cluster.run(100)
    assert cluster.views_at(1) == [(1,), (1, 2), (1, 2, 3)]
    assert cluster.commands(1) == cluster.commands(2) == cluster.commands(3) == ["a", "b"]
    assert sum(cluster.core(node).counters.total() for node in (1, 2, 3)) > 0


@pytest.mark.parametrize("seed", range(30))
def test_no_core_fails_an_assertion_of_its_own_when_members_send_nonsense(seed: int) -> None:
    """Forged messages of members can break promises between nodes, never the code: the step is judged."""
    rng = Random(seed)
    cluster = Cluster([1, 2, 3])
    cluster.start(1, 2, 3)
    if seed % 3:
        cluster.form(1, 2, 3)
        cluster.write("a")
    for node in (1, 2, 3):
        core = cluster.core(node)
        real = [message for _, _, message in cluster.sent[-200:]]
        for _ in range(300):
            message = mangled(rng, rng.choice([*real, *EXAMPLES]), max(core.group, Incarnation(1001)))
            if message is None:
                continue
            source = NodeId(rng.choice((0, 1, 2, 3, 9)))
            for effect in core.step(Received(source, message), cluster.now):
                msgspec.msgpack.encode(effect)
            core.status(cluster.now)
            assert core.positions.applied <= core.positions.committed <= core.positions.log.last.seqno

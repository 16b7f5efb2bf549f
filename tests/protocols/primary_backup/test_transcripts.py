"""Stories of primary-backup as prose, in both forms: a reader of the protocol can judge a difference.

Rewrite them with `VIEWSTAMP_REWRITE_TRANSCRIPTS=1 pytest tests/protocols/primary_backup`, and commit the
difference only if you can explain it.
"""

from pathlib import Path

from tests.protocols.primary_backup.course_world import CourseWorld
from tests.protocols.primary_backup.fenced_world import FencedWorld, bootstrapped
from tests.protocols.transcripts import check_transcript
from viewstamp.core.events import PeerDown, PeerUp
from viewstamp.core.ids import NodeId

FOLDER = Path(__file__).parent


def compare(world: CourseWorld | FencedWorld, name: str) -> None:
    """Compare what happened with the transcript of this name, or write it."""
    check_transcript(FOLDER, name, world.lines)


def say(world: CourseWorld | FencedWorld, sentence: str) -> None:
    """Begin a chapter."""
    world.lines += ["", f"== {sentence}"] if world.lines else [f"== {sentence}"]


def test_course_takeover() -> None:
    world = CourseWorld(3)
    say(world, "orders at factory 0, which becomes primary and greets the others")
    world.write(0, b"first", b"second")
    say(world, "orders at factory 1: it commits entry 2 and writes its own behind it")
    world.write(1, b"third")
    assert [world.positions(node) for node in range(3)] == [(3, 2), (3, 3), (3, 2)]
    compare(world, "course_takeover")


def test_course_primary_dies_after_the_first_backup() -> None:
    world = CourseWorld(3)
    say(world, "the primary dies when the first of two backups has entry 2")
    world.write(0, b"a")
    world.give(0, b"x")
    world.deliver()
    world.kill(0)
    world.settle()
    say(world, "the one that lacks it takes over: it adopts the newer log first")
    world.write(2, b"next")
    assert world.logs()[1] == world.logs()[2]
    compare(world, "course_half_replicated")


def test_course_repaired_server() -> None:
    world = CourseWorld(3)
    say(world, "a backup dies, and writes go on without it")
    world.write(0, b"a")
    world.kill(2)
    world.write(0, b"b")
    say(world, "it is started again, empty: the primary finds it at the next write, and brings it up")
    world.revive(2)
    world.write(0, b"c")
    say(world, "from then on it has each entry like the others")
    world.write(0, b"d")
    assert world.positions(2) == (4, 3)
    compare(world, "course_repaired")


def test_course_split_brain() -> None:
    world = CourseWorld(2)
    zero, one = NodeId(0), NodeId(1)
    say(world, "the network is cut, and each side takes the other for dead")
    world.write(0, b"a")
    world.cut = {(zero, one), (one, zero)}
    world.feed(0, PeerDown(one))
    world.feed(1, PeerDown(zero))
    say(world, "both acknowledge another entry 2")
    world.give(0, b"left")
    world.give(1, b"right")
    world.feed(1, PeerDown(zero))
    world.settle()
    assert (world.positions(0), world.positions(1)) == ((2, 2), (2, 2))
    say(world, "the network is whole again, and they never agree")
    world.cut = set()
    world.feed(1, PeerUp(zero))
    world.settle()
    assert world.logs() == {0: [b"a", b"left"], 1: [b"a", b"right"]}
    compare(world, "course_split_brain")


def test_fenced_bootstrap() -> None:
    world = FencedWorld(3)
    say(world, "all begin empty and hear of one another; the lowest is primary of epoch 1")
    world.settle()
    say(world, "an entry is committed when all three have it on disk")
    world.write(0, b"first")
    world.run(100)
    compare(world, "fenced_bootstrap")


def test_fenced_promotion() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.lines.clear()
    say(world, "the primary dies; no node takes over by itself")
    world.crash(0)
    world.run(600)
    say(world, "the operator promotes node 1: a trial, a fence, and the others are brought up")
    world.promote(1, 1)
    world.settle()
    world.write(1, b"b")
    say(world, "the old primary comes back, asks, hears the new one and follows")
    world.start(0)
    world.run(250)
    assert world.nodes[NodeId(0)].commands == [b"a", b"b"]
    compare(world, "fenced_promotion")


def test_fenced_split_brain_is_refused() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.lines.clear()
    say(world, "the primary is cut off with an entry in flight; the operator promotes node 1")
    world.isolate(0)
    world.propose(0, b"left")
    world.promote(1, 1)
    world.settle()
    world.write(1, b"right")
    assert world.nodes[NodeId(0)].commands == [b"a"]
    assert world.nodes[NodeId(1)].commands == [b"a", b"right"]
    say(world, "the network is whole again: the old epoch is over")
    world.heal()
    world.run(150)
    assert world.nodes[NodeId(0)].commands == [b"a", b"right"]
    compare(world, "fenced_split_brain_refused")


def test_fenced_dropped_backup_is_not_promoted() -> None:
    world = bootstrapped(3)
    world.lines.clear()
    say(world, "a backup is silent: the primary records a set without it, and goes on")
    world.isolate(2)
    world.propose(0, b"a")
    world.run(650)
    assert world.nodes[NodeId(0)].commands == [b"a"]
    say(world, "the primary dies; the operator promotes the one that was dropped")
    world.crash(0)
    world.heal()
    world.promote(2, 1)
    world.settle()
    say(world, "and then one that has everything")
    world.promote(1, 2)
    world.settle()
    assert world.primary == 1
    compare(world, "fenced_dropped")


def test_fenced_disk_is_lost() -> None:
    world = bootstrapped(3)
    world.write(0, b"a")
    world.lines.clear()
    say(world, "a backup loses its disk; the primary goes on without it")
    world.wipe(2)
    world.run(650)
    say(world, "it comes back: it is brought up and recorded at the other, and is sent the record last")
    world.start(2)
    world.run(300)
    assert world.core(2).state.counts
    compare(world, "fenced_wiped")

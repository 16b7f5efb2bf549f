"""What a fenced member says of itself to an operator."""

from tests.protocols.primary_backup.fenced_world import FencedWorld, bootstrapped


def waiting_for(world: FencedWorld, number: int) -> str:
    return world.core(number).status(world.now).waiting_for


def test_status_names_the_nodes_that_are_waited_for_when_a_member_does_not_serve() -> None:
    world = bootstrapped(3)
    assert waiting_for(world, 0) == ""
    assert [peer.state for peer in world.core(0).status(world.now).peers] == ["synchronous"] * 2
    world.crash(0)
    world.run(1_000)
    assert waiting_for(world, 1) == "waiting for a primary: promote one with `viewstamp transfer --to`"
    world.crash(2)
    world.promote(1, 1)
    world.run(10)
    assert waiting_for(world, 1) == "waiting for a majority to grant its promotion"


def test_status_names_the_members_that_were_not_heard_when_the_cluster_is_new() -> None:
    world = FencedWorld(3, start=False)
    world.start(0)
    world.run(200)
    assert world.core(0).status(world.now).role == "bootstrapping"
    assert waiting_for(world, 0) == "waiting to bootstrap: not heard from nodes 1, 2 yet"


def test_status_says_that_the_disk_was_wiped_when_a_member_with_a_log_says_so() -> None:
    world = bootstrapped(3)
    world.crash(0)
    world.wipe(2)
    world.start(2)
    world.run(200)
    assert waiting_for(world, 2) == "its disk was wiped: waiting for the primary to re-admit it"


def test_status_names_the_silent_nodes_when_a_primary_has_no_majority() -> None:
    world = bootstrapped(3)
    world.isolate(0)
    world.run(700)
    assert waiting_for(world, 0) == "waiting for a majority: no answer from nodes 1, 2"

"""Virtual time."""

from viewstamp.sim.world.world import World


def test_things_happen_in_order_of_time_then_of_scheduling() -> None:
    world, seen = World(), list[str]()
    world.at(20, seen.append, "b")
    world.at(10, seen.append, "a")
    world.after(20, seen.append, "c")
    world.run_until(20)
    assert seen == ["a", "b", "c"]
    assert (world.now_us, world.events, world.waiting) == (20, 3, 0)


def test_time_does_not_go_back_when_the_past_is_asked_for() -> None:
    world, seen = World(), list[int]()
    world.run_until(100)
    world.at(5, lambda: seen.append(world.now_us))
    world.run_until(100)
    assert seen == [100]


def test_run_until_stops_when_the_next_thing_is_later() -> None:
    world, seen = World(), list[str]()
    world.at(101, seen.append, "later")
    world.run_until(100)
    assert not seen
    assert world.next_at_us == 101


def test_run_while_tells_whether_the_condition_ended() -> None:
    world, seen = World(), list[str]()
    world.at(5, seen.append, "a")
    world.at(50, seen.append, "b")
    assert world.run_while(lambda: not seen, 10)
    assert world.now_us == 5
    assert not world.run_while(lambda: len(seen) < 2, 10)
    assert world.now_us == 10


def test_step_tells_when_the_world_is_at_rest() -> None:
    world = World()
    assert not world.step()
    assert world.next_at_us is None

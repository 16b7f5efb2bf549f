"""Tests 0 to 16 of the course in our own words, and stricter: whole memberships are compared, not sizes.

Where the original sleeps and then looks, these wait for what must come. What they let pass is the time in
which something must *not* happen, and the pauses that place a failure in the middle of the load. The order of
members is the order of joining.
"""

from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Final

from viewstamp_labs.lab6824.group import Group
from viewstamp_labs.lab6824.waiting import Failed, pause

Scenario = Callable[[Group, Random], None]

QUIET_S: Final = 4.0
"""Longer than it takes to notice any failure and to decide a view, if one could be decided."""
UNDER_LOAD_S: Final = 1.0
REJOIN_S: Final = 7.0
"""Until then at most the second of two servers comes back."""


def _test_0(group: Group, _: Random) -> None:
    """Three servers join one by one."""
    group.start(3)


def _test_1(group: Group, _: Random) -> None:
    """A backup ends."""
    group.start(3)
    group.term(2)
    group.expect((0, 1))


def _test_2(group: Group, _: Random) -> None:
    """The primary ends."""
    group.start(3)
    group.term(0)
    group.expect((1, 2))


def _test_3(group: Group, _: Random) -> None:
    """A backup ends and comes back; its log has the view that it missed."""
    group.start(3)
    group.term(2)
    group.expect((0, 1))
    group.serve(2)
    group.expect((0, 1, 2))


def _test_4(group: Group, rng: Random) -> None:
    """Half of a view of two decides nothing, also with a third that is not in it."""
    group.start(3)
    group.term(2)
    group.expect((0, 1))
    group.term(1)
    group.stay([0, 1, 2], QUIET_S)
    group.says_that_it_waits(0)
    group.serve(2)
    group.stay([0, 1, 2], QUIET_S)
    group.term(2)
    group.serve(1)
    pause(rng.uniform(0, REJOIN_S))
    group.serve(2)
    group.settle({0, 1, 2})


def _test_5(group: Group, _: Random) -> None:
    """The proposer dies between phase 1 and phase 2."""
    group.start(3)
    group.arm(0, "breakpoint", 3)
    group.term(2)
    group.died_at_breakpoint(0)
    group.stay([0, 1, 2], QUIET_S)
    group.serve(2)
    group.expect((1, 2))
    group.stay([1, 2], QUIET_S)


def _test_6(group: Group, _: Random) -> None:
    """The proposer dies after phase 2: what a majority accepted comes before any other view."""
    group.start(4)
    group.arm(0, "breakpoint", 4)
    group.term(3)
    group.died_at_breakpoint(0)
    group.stay([1, 2], QUIET_S)
    group.serve(3, master=1)
    _finish_accepted_view(group)


def _test_7(group: Group, _: Random) -> None:
    """As test 6, and the two that accepted restart before anything is decided."""
    group.start(4)
    group.arm(0, "breakpoint", 4)
    group.term(3)
    group.died_at_breakpoint(0)
    group.has_accepted((0, 1, 2), at=(1, 2))
    group.term(2)
    group.term(1)
    group.serve(1)
    group.serve(2)
    group.stay([1, 2], QUIET_S)
    group.serve(3, master=1)
    _finish_accepted_view(group)


def _finish_accepted_view(group: Group) -> None:
    group.expect((0, 1, 2), at=(1, 2))
    group.expect((1, 2))
    group.expect((1, 2, 3))


def _test_8(group: Group, _: Random) -> None:
    """The lock tester, and nothing fails."""
    group.start(3)
    group.start_tester()
    group.await_testers()


def _test_9(group: Group, rng: Random) -> None:
    """A backup ends under load."""
    _start_under_load(group, rng.randint(1, 10))
    group.term(2)
    group.expect((0, 1))
    group.await_testers()


def _test_10(group: Group, rng: Random) -> None:
    """A backup ends under load and comes back."""
    _start_under_load(group, rng.randint(1, 10))
    group.term(2)
    group.expect((0, 1))
    pause(rng.uniform(0, 3))
    group.serve(2)
    group.expect((0, 1, 2))
    group.await_testers()


def _test_11(group: Group, rng: Random) -> None:
    """The primary ends under load."""
    _start_under_load(group, rng.randint(1, 10))
    group.term(0)
    group.expect((1, 2))
    group.await_testers()


def _test_12(group: Group, _: Random) -> None:
    """The primary dies when its first backup has a request that the other does not have, and comes back."""
    _start_under_load(group, UNDER_LOAD_S)
    group.arm(0, "breakpoint", 1)
    group.died_at_breakpoint(0)
    group.expect((1, 2))
    group.serve(0, master=1)
    group.expect((1, 2, 0))
    group.await_testers()


def _test_13(group: Group, _: Random) -> None:
    """A backup dies when it has a request and has not said so, and comes back."""
    _start_under_load(group, UNDER_LOAD_S)
    group.arm(2, "breakpoint", 1)
    group.died_at_breakpoint(2)
    group.expect((0, 1))
    group.serve(2)
    group.expect((0, 1, 2))
    group.await_testers()


def _test_14(group: Group, _: Random) -> None:
    """A backup dies, and another in the view that follows."""
    _start_under_load(group, UNDER_LOAD_S, count=5)
    group.arm(3, "breakpoint", 2)
    group.arm(4, "breakpoint", 1)
    group.died_at_breakpoint(4)
    group.expect((0, 1, 2, 3))
    group.died_at_breakpoint(3)
    group.expect((0, 1, 2))
    group.await_testers()


def _test_15(group: Group, _: Random) -> None:
    """A backup dies, and the primary in the view that follows, before the others have heard of it."""
    _start_under_load(group, UNDER_LOAD_S, count=5)
    group.arm(0, "breakpoint", 2)
    group.arm(4, "breakpoint", 1)
    group.died_at_breakpoint(4)
    group.died_at_breakpoint(0)
    group.expect((0, 1, 2, 3))
    group.expect((1, 2, 3))
    group.await_testers()


def _test_16(group: Group, rng: Random) -> None:
    """The primary is cut off, others take over, the cut heals, and it is a member again."""
    _start_under_load(group, UNDER_LOAD_S)
    group.arm(0, "partition", 0)
    group.expect((1, 2))
    pause(rng.uniform(0, 3))
    if group.logged(0) != group.views[:3]:
        raise Failed(f"a server that was cut off heard of a view: {group.logged(0)}")
    group.arm(0, "partition", 1)
    group.expect((1, 2, 0))
    group.await_testers()


def _test_17(group: Group, rng: Random) -> None:
    """All servers are killed at once under load, and started again."""
    _start_under_load(group, rng.uniform(1, 5))
    group.kill(0, 1, 2)
    for index in rng.sample(range(3), 3):
        group.serve(index)
    group.settle({0, 1, 2})
    group.await_testers()


def _test_18(group: Group, _: Random) -> None:
    """Primary and backup are killed in turn, down to a view of two, which waits for its other member."""
    _start_under_load(group, UNDER_LOAD_S, count=5)
    group.kill(0)
    group.expect((1, 2, 3, 4))
    group.kill(4)
    group.expect((1, 2, 3))
    group.kill(1)
    group.expect((2, 3))
    group.kill(2)
    group.stay([3], QUIET_S)
    group.says_that_it_waits(3)
    group.serve(2, master=3)
    group.await_testers()
    group.settle({2, 3})


def _test_19(group: Group, rng: Random) -> None:
    """Servers are killed and started again one after the other, each as soon as it is a member again."""
    _start_under_load(group, UNDER_LOAD_S)
    for index in rng.sample(range(3), 3):
        group.kill(index)
        group.settle({0, 1, 2} - {index})
        group.serve(index, master=(index + 1) % 3)
        group.settle({0, 1, 2})
    group.await_testers()


def _test_20(group: Group, rng: Random) -> None:
    """Two testers want the same locks; the primary is killed, comes back, and the next primary ends."""
    group.start(3)
    group.start_tester()
    group.start_tester()
    pause(rng.uniform(1, 5))
    group.kill(0)
    group.expect((1, 2))
    group.serve(0, master=2)
    group.expect((1, 2, 0))
    pause(rng.uniform(0, 3))
    group.term(1)
    group.expect((2, 0))
    group.await_testers()


def _test_21(group: Group, rng: Random) -> None:
    """The handout's test 9: the first backup ends under load."""
    _start_under_load(group, rng.randint(1, 10))
    group.term(1)
    group.expect((0, 2))
    group.await_testers()


def _test_22(group: Group, rng: Random) -> None:
    """The handout's test 10: the second backup ends under load."""
    _start_under_load(group, rng.randint(1, 10))
    group.term(2)
    group.expect((0, 1))
    group.await_testers()


def _test_23(group: Group, _: Random) -> None:
    """The handout's test 12: the first backup dies when it has a request, and comes back."""
    _start_under_load(group, UNDER_LOAD_S)
    group.arm(1, "breakpoint", 1)
    group.died_at_breakpoint(1)
    group.expect((0, 2))
    group.serve(1)
    group.expect((0, 2, 1))
    group.await_testers()


def _start_under_load(group: Group, for_s: float, count: int = 3) -> None:
    group.start(count)
    group.start_tester()
    pause(for_s)


COURSE: Final = range(17)
"""The course's numbers; those above are our own."""
TESTS: Final[Mapping[int, Scenario]] = MappingProxyType(
    dict(
        enumerate(
            (
                *(_test_0, _test_1, _test_2, _test_3, _test_4, _test_5, _test_6, _test_7),
                *(_test_8, _test_9, _test_10, _test_11, _test_12, _test_13, _test_14, _test_15, _test_16),
                *(_test_17, _test_18, _test_19, _test_20, _test_21, _test_22, _test_23),
            )
        )
    )
)

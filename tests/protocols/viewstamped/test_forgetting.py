"""A member that lost its disk in a view that is too small for a majority without it.

Every majority of a view of two has both members, so the one that kept its disk knows whether anything was
decided; of a view of four, half of them do.
"""

import pytest

from tests.protocols.viewstamped.harness import Cluster, cluster_of
from viewstamp.core.ids import Incarnation, NodeId, View
from viewstamp.protocols.viewstamped.membership import Member
from viewstamp.protocols.viewstamped.paxos import are_enough

A, B, C, D = (NodeId(node) for node in (1, 2, 3, 4))


def view_of_two() -> Cluster:
    """Three members wrote "a"; node 2 died; nodes 1 and 3 wrote "b"."""
    cluster = cluster_of(1, 2, 3)
    cluster.write("a")
    cluster.crash(2)
    cluster.form(1, 3)
    cluster.write("b")
    return cluster


def wipe(cluster: Cluster, node: int) -> None:
    cluster.crash(node)
    cluster.wipe(node)


@pytest.mark.parametrize("forgetful", [1, 3])
def test_view_of_two_when_one_lost_its_disk_goes_on_with_the_one_that_kept_it(forgetful: int) -> None:
    cluster = view_of_two()
    wipe(cluster, forgetful)
    cluster.start(forgetful, 2)
    cluster.form(1, 2, 3, within_ms=20_000)
    cluster.write("c")
    cluster.run(1_000)
    for node in (1, 2, 3):
        assert cluster.commands(node)[-1] == "c"
    assert cluster.commands(4 - forgetful) == ["a", "b", "c"]


def test_view_of_two_when_its_other_member_is_only_down_waits_for_it() -> None:
    cluster = view_of_two()
    cluster.crash(1)
    cluster.start(2)
    cluster.run(10_000)
    assert cluster.primary is None, "the dead one may have decided with this one"
    cluster.start(1)
    cluster.form(1, 2, 3, within_ms=20_000)


def test_view_of_two_when_the_other_one_does_not_know_the_view_yet_does_not_count_it_as_forgetful() -> None:
    cluster = view_of_two()
    views = cluster.core(3).views
    old = Member(A, Incarnation(5))
    assert not views.note_forgotten(old, View(views.view - 1)), "it may be from before the view"
    assert not views.note_forgotten(views.current.members[0] if views.current else old, views.view)
    assert not views.note_forgotten(Member(B, Incarnation(5)), views.view), "not a member"
    assert views.note_forgotten(old, views.view)
    assert views.forgot == {A}
    assert not views.note_forgotten(old, views.view), "known"


@pytest.mark.parametrize(
    ("supporters", "members", "forgot", "enough"),
    [
        ({A}, (A, B), (), False),
        ({A}, (A, B), (B,), True),
        ({B}, (A, B), (B,), False),
        ({A, B}, (A, B, C, D), (), False),
        ({A, B}, (A, B, C, D), (C,), True),
        ({A, C}, (A, B, C, D), (C,), False),
        ({A}, (A, B, C), (B,), False),
        ({A, B}, (A, B, C), (C,), True),
        ({A}, (A, B), (C,), False),
    ],
)
def test_half_of_a_view_decides_only_where_a_member_of_it_forgot(
    supporters: set[NodeId], members: tuple[NodeId, ...], forgot: tuple[NodeId, ...], enough: bool
) -> None:
    assert are_enough(supporters, members, forgot) == enough

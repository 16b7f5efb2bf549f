"""The course's scenarios as stories: who dies at which point, and what must come of it.

The scenarios are those of docs/labs/6.824.md#tester.

Full membership is compared, not counts. Each story is also a transcript, `transcripts/<name>.txt`.
"""

from typing import Any

import pytest

from tests.protocols.viewstamped.golden import check_transcript
from tests.protocols.viewstamped.harness import Breakpoint, Cluster, cluster_of
from viewstamp.protocols.viewstamped import Point

LAB: dict[str, Any] = {"bootstrap": "join", "contact": 1}
ACCEPTED_COMES_FIRST = [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), (1, 2, 3), (2, 3), (2, 3, 4)]
"""Four nodes; the fourth died, then the proposer of the view without it, when that view was accepted."""


def lab_cluster(count: int, *, story: bool = False, **breakpoints: Breakpoint) -> Cluster:
    """Start nodes one after the other as the course's tester does: the first alone, the others join by it.

    `nodeN=` names a breakpoint that node N carries. The transcript begins here, or when all have joined.
    """
    cluster = Cluster([])
    cluster.story = story
    cluster.start(1, bootstrap="alone", failpoints=breakpoints.get("node1"))
    for node in range(2, count + 1):
        cluster.start(node, failpoints=breakpoints.get(f"node{node}"), **LAB)
        cluster.form(*range(1, node + 1))
    cluster.story = True
    return cluster


class Later(Breakpoint):
    """A breakpoint that is armed while the node runs, as the course's test calls do."""

    def __init__(self, point: Point) -> None:
        super().__init__(point)
        self.hit = True

    def arm(self) -> None:
        self.hit = False


def views_of(cluster: Cluster, *nodes: int) -> list[tuple[int, ...]]:
    """Return the history of views that these nodes agree on."""
    first, *others = (cluster.views_at(node) for node in nodes)
    assert all(other == first for other in others), others
    return first


def commands_of(cluster: Cluster, *nodes: int) -> list[str]:
    """Return the commands that these nodes agree on."""
    first, *others = (cluster.commands(node) for node in nodes)
    assert all(other == first for other in others), others
    return first


def propose_armed(cluster: Cluster, *breakpoints: Later) -> None:
    """Write "a", then propose "b" with these breakpoints armed."""
    cluster.write("a")
    for each in breakpoints:
        each.arm()
    cluster.propose("b")


def propose_view_armed(cluster: Cluster, breakpoint_: Later, *, gone: int) -> None:
    """Let a node die while this breakpoint of the next view's proposer is armed, and wait for what comes."""
    breakpoint_.arm()
    cluster.crash(gone)
    cluster.run(5_000)


def rejoin(cluster: Cluster, node: int, *others: int) -> None:
    """Start a node again, by way of the first of these that are up; they become one view."""
    cluster.start(node, bootstrap="join", contact=others[0])
    cluster.form(node, *others)


def test_three_nodes_join_one_by_one_when_started_in_turn() -> None:
    cluster = lab_cluster(3, story=True)
    assert views_of(cluster, 1, 2, 3) == [(1,), (1, 2), (1, 2, 3)]
    check_transcript("test0_joins", cluster)


def test_bootstrapping_members_ask_all_others_first_when_started_together() -> None:
    cluster = Cluster([1, 2, 3])
    cluster.story = True
    cluster.start(1, 2, 3)
    cluster.form(1, 2, 3)
    assert cluster.views_at(3) == [(1,), (1, 2), (1, 2, 3)]
    check_transcript("bootstrap_together", cluster)


def test_history_is_whole_when_a_node_missed_views() -> None:
    cluster = lab_cluster(3)
    cluster.crash(3)
    cluster.form(1, 2)
    cluster.start(3, **LAB)
    cluster.form(1, 2, 3)
    assert cluster.views_at(3) == [(1,), (1, 2), (1, 2, 3), (1, 2), (1, 2, 3)]
    check_transcript("test3_rejoin", cluster)


def test_nothing_is_decided_when_half_of_a_view_of_two_is_gone() -> None:
    cluster = lab_cluster(3)
    cluster.story = True
    cluster.crash(3)
    cluster.form(1, 2)
    cluster.crash(2)
    cluster.run(5_000)
    cluster.start(3, **LAB)
    cluster.run(5_000)
    assert views_of(cluster, 1, 3) == [(1,), (1, 2), (1, 2, 3), (1, 2)]
    assert "a majority of view 4" in cluster.waiting_for(1)
    cluster.crash(3)
    cluster.start(2, **LAB)
    cluster.run(1_000)
    cluster.start(3, **LAB)
    cluster.form(1, 2, 3)
    assert cluster.views_at(1)[:4] == [(1,), (1, 2), (1, 2, 3), (1, 2)]
    check_transcript("test4_half_of_two", cluster)


def test_the_next_view_comes_when_the_proposer_died_after_phase_1() -> None:
    breakpoint_ = Later(Point.PREPARED)
    cluster = lab_cluster(3, node1=breakpoint_)
    propose_view_armed(cluster, breakpoint_, gone=3)
    assert cluster.running == [2]
    assert cluster.views_at(2) == [(1,), (1, 2), (1, 2, 3)]
    cluster.start(3, **LAB)
    cluster.form(2, 3)
    cluster.run(10_000)
    assert views_of(cluster, 2, 3) == [(1,), (1, 2), (1, 2, 3), (2, 3)]
    check_transcript("test5_proposer_dies_prepared", cluster)


def test_the_accepted_view_comes_first_when_the_proposer_died_after_phase_2() -> None:
    breakpoint_ = Later(Point.CHOSEN)
    cluster = lab_cluster(4, node1=breakpoint_)
    propose_view_armed(cluster, breakpoint_, gone=4)
    assert cluster.running == [2, 3]
    assert cluster.views_at(2) == [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]
    rejoin(cluster, 4, 2, 3)
    assert views_of(cluster, 2, 3, 4) == ACCEPTED_COMES_FIRST
    check_transcript("test6_proposer_dies_chosen", cluster)


def test_the_accepted_view_survives_when_all_acceptors_restarted() -> None:
    breakpoint_ = Later(Point.CHOSEN)
    cluster = lab_cluster(4, node1=breakpoint_)
    propose_view_armed(cluster, breakpoint_, gone=4)
    cluster.crash(2, 3)
    cluster.run(1_000)
    cluster.start(2, **LAB)
    cluster.start(3, **LAB)
    cluster.run(5_000)
    assert views_of(cluster, 2, 3) == [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]
    rejoin(cluster, 4, 2, 3)
    assert views_of(cluster, 2, 3, 4) == ACCEPTED_COMES_FIRST
    check_transcript("test7_all_restart_chosen", cluster)


def test_a_request_is_kept_or_lost_as_one_when_the_primary_died_after_the_first_backup_had_it() -> None:
    breakpoint_ = Later(Point.FIRST_BACKUP_HAS_IT)
    cluster = lab_cluster(3, node1=breakpoint_)
    propose_armed(cluster, breakpoint_)
    cluster.form(2, 3)
    assert cluster.core(2).positions.log.last == cluster.core(3).positions.log.last
    rejoin(cluster, 1, 2, 3)
    cluster.write("c")
    cluster.run(100)
    assert commands_of(cluster, 1, 2, 3) == ["a", "b", "c"]
    assert cluster.views_at(1)[3:] == [(2, 3), (2, 3, 1)]
    check_transcript("test12_primary_dies_after_first_backup", cluster)


def test_states_stay_equal_when_a_backup_died_before_its_acknowledgement() -> None:
    breakpoint_ = Later(Point.BACKUP_HAS_IT)
    cluster = lab_cluster(3, node3=breakpoint_)
    propose_armed(cluster, breakpoint_)
    cluster.form(1, 2)
    cluster.start(3, **LAB)
    cluster.form(1, 2, 3)
    cluster.write("c")
    cluster.run(100)
    assert commands_of(cluster, 1, 2, 3) == ["a", "b", "c"]
    check_transcript("test13_backup_dies_before_ack", cluster)


@pytest.mark.parametrize(("backup", "left", "name"), [(2, 3, "handout9_first"), (3, 2, "handout10_second")])
def test_the_primary_goes_on_with_the_other_when_a_backup_ended_under_load(
    backup: int, left: int, name: str
) -> None:
    """The transcript in the handout of lab 7, whose tests 9 and 10 are not those of the script."""
    cluster = lab_cluster(3)
    cluster.story = True
    cluster.write("a")
    cluster.crash(backup)
    acknowledged = len(cluster.acknowledged)
    cluster.propose("b")
    cluster.run(50)
    assert len(cluster.acknowledged) == acknowledged, "a request waits for each member of the view"
    cluster.form(1, left)
    cluster.write("c")
    cluster.run(100)
    assert commands_of(cluster, 1, left) == ["a", "b", "c"]
    check_transcript(name, cluster)


def test_states_stay_equal_when_the_first_backup_died_before_its_acknowledgement() -> None:
    """Test 12 as the handout tells it: the script kills the primary."""
    breakpoint_ = Later(Point.BACKUP_HAS_IT)
    cluster = lab_cluster(3, node2=breakpoint_)
    propose_armed(cluster, breakpoint_)
    cluster.form(1, 3)
    cluster.start(2, **LAB)
    cluster.form(1, 2, 3)
    cluster.write("c")
    cluster.run(100)
    assert commands_of(cluster, 1, 2, 3) == ["a", "b", "c"]
    assert cluster.views_at(2)[3:] == [(1, 3), (1, 3, 2)]
    check_transcript("handout12_first_backup_dies_before_ack", cluster)


def test_five_nodes_go_on_when_two_backups_died_one_in_the_view_change() -> None:
    first, second = Later(Point.BACKUP_HAS_IT), Later(Point.VIEW_ENTERED)
    cluster = lab_cluster(5, node5=first, node4=second)
    propose_armed(cluster, first, second)
    cluster.form(1, 2, 3)
    cluster.write("c")
    cluster.run(100)
    assert cluster.views_at(1)[5:] == [(1, 2, 3, 4), (1, 2, 3)]
    assert commands_of(cluster, 1, 2, 3) == ["a", "b", "c"]
    check_transcript("test14_two_backups_die", cluster)


def test_five_nodes_go_on_when_a_backup_died_and_the_primary_in_the_view_change() -> None:
    first, second = Later(Point.BACKUP_HAS_IT), Later(Point.VIEW_ENTERED)
    cluster = lab_cluster(5, node5=first, node1=second)
    propose_armed(cluster, first, second)
    cluster.form(2, 3, 4)
    cluster.write("c")
    cluster.run(100)
    # The view that the dead primary proposed, with itself in it, comes first.
    assert cluster.views_at(2)[5:] == [(1, 2, 3, 4), (2, 3, 4)]
    assert commands_of(cluster, 2, 3, 4) == ["a", "b", "c"]
    check_transcript("test15_backup_and_primary_die", cluster)


def test_the_old_primary_rejoins_when_it_was_cut_off_and_healed() -> None:
    partition = Later(Point.FIRST_BACKUP_HAS_IT)
    cluster = lab_cluster(3, node1=partition)
    partition.then = lambda: cluster.isolate(1)
    cluster.write("a")
    acknowledged = len(cluster.acknowledged)
    partition.arm()
    cluster.propose("b")
    assert cluster.run(1_000, until=lambda: partition.hit)
    token = cluster.query(1)
    cluster.run(200)
    assert cluster.answer(1, token) == "waiting"
    assert len(cluster.acknowledged) == acknowledged
    cluster.form(2, 3)
    cluster.write("c")
    cluster.heal()
    cluster.form(1, 2, 3)
    cluster.write("d")
    cluster.run(100)
    assert cluster.answer(1, token) is None
    assert cluster.views_at(1)[3:] == [(2, 3), (2, 3, 1)]
    assert [each for each in commands_of(cluster, 1, 2, 3) if each != "b"] == ["a", "c", "d"]
    check_transcript("test16_partitioned_primary", cluster)


def test_nothing_acknowledged_is_lost_when_all_crash_at_once() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.write("a", "b", "c")
    cluster.crash(1, 2, 3)
    cluster.start(1, 2, 3)
    cluster.form(1, 2, 3)
    cluster.write("d")
    cluster.run(100)
    for node in (1, 2, 3):
        assert cluster.commands(node) == ["a", "b", "c", "d"]


def test_a_backup_is_readmitted_without_a_new_view_when_it_restarted_quickly() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.write("a")
    cluster.crash(3)
    cluster.run(50)
    cluster.start(3)
    cluster.write("b")
    cluster.run(2_000)
    assert cluster.views_at(1) == [(1,), (1, 2), (1, 2, 3)]
    assert cluster.commands(3) == ["a", "b"]


def test_a_primary_renews_its_view_when_it_restarted_quickly() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.write("a")
    cluster.crash(1)
    cluster.run(50)
    cluster.start(1)
    cluster.form(1, 2, 3)
    cluster.write("b")
    assert cluster.views_at(1) == [(1,), (1, 2), (1, 2, 3), (1, 2, 3)]
    assert cluster.core(1).leader == 1


def test_a_wiped_member_is_removed_and_joins_again_when_it_comes_back() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.write("a")
    old = cluster.core(1).views.current
    assert old is not None
    cluster.crash(3)
    cluster.wipe(3)
    cluster.start(3)
    cluster.form(1, 2, 3)
    cluster.write("b")
    cluster.run(100)
    assert cluster.views_at(3) == [(1,), (1, 2), (1, 2, 3), (1, 2), (1, 2, 3)]
    new = cluster.core(1).views.current
    assert new is not None
    assert old.members != new.members
    assert cluster.commands(3) == ["a", "b"]


def test_no_second_group_bootstraps_when_the_lowest_node_was_wiped() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.write("a")
    cluster.crash(1)
    cluster.wipe(1)
    cluster.start(1)
    assert cluster.run(500, until=lambda: cluster.core(1).view == 3)
    assert cluster.core(1).leader is None
    cluster.form(1, 2, 3)
    cluster.write("b")
    cluster.run(100)
    assert cluster.views_at(1) == [(1,), (1, 2), (1, 2, 3), (2, 3), (2, 3, 1)]
    assert cluster.commands(1) == ["a", "b"]


def test_a_wiped_node_waits_when_the_others_are_down() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.crash(1, 2, 3)
    cluster.wipe(1)
    cluster.start(1)
    cluster.run(10_000)
    assert cluster.views_at(1) == []
    assert cluster.waiting_for(1) == "nodes 2, 3 to say whether they know a view"

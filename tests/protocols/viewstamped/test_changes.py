"""The configured members of a viewstamped cluster change: what views may be proposed follows them."""

import msgspec
import pytest

from tests.protocols.viewstamped.harness import MS, Cluster, cluster_of
from viewstamp.core.events import ChangeMembers, Directed, DirectiveToken, TransferLeadership
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.viewstamped.membership import Member, Membership, follows
from viewstamp.protocols.viewstamped.messages import Accept, Append, BootstrapQuery, Prepare, Views
from viewstamp.protocols.viewstamped.options import ViewstampedOptions


def nodes(*numbers: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(number) for number in numbers)


def fresh(cluster: Cluster, *numbers: int) -> tuple[tuple[NodeId, Incarnation], ...]:
    return tuple((NodeId(number), cluster.hosts[NodeId(number)].incarnation) for number in numbers)


def adding(cluster: Cluster, *numbers: int) -> ChangeMembers:
    return ChangeMembers(add=fresh(cluster, *numbers), promote=nodes(*numbers))


def replacing(cluster: Cluster, *pairs: tuple[int, int]) -> ChangeMembers:
    return ChangeMembers(
        add=fresh(cluster, *(new for _, new in pairs)),
        replace=tuple((NodeId(old), NodeId(new)) for old, new in pairs),
    )


def served(*members: int, options: ViewstampedOptions | None = None) -> Cluster:
    cluster = cluster_of(*(members or (1, 2, 3)), options=options)
    cluster.write("a", "b")
    return cluster


def direct(cluster: Cluster, change: ChangeMembers, token: int = 1) -> str | None:
    """Ask the primary, and let time pass until it has answered; return the refusal."""
    assert cluster.run(5_000, until=lambda: cluster.primary is not None), "nobody serves"
    assert cluster.primary is not None
    host = cluster.hosts[NodeId(cluster.primary)]
    cluster.step(host.node, Directed(DirectiveToken(token), change))
    assert cluster.run(10_000, until=lambda: token in host.settled), "the operator is not answered"
    return host.settled[token]


def voters(cluster: Cluster) -> list[int]:
    """The configured voters, when nothing of a change is left to do; else empty."""
    if cluster.primary is None:
        return []
    membership = cluster.core(cluster.primary).status(cluster.now).membership
    assert membership is not None
    return [int(node) for node, _ in membership.voters] if membership.settled else []


def wait_for(cluster: Cluster, *wanted: int, within_ms: int = 20_000) -> None:
    def is_so() -> bool:
        return voters(cluster) == list(wanted) and {*cluster.members_at(cluster.primary or 0)} == {*wanted}

    assert cluster.run(within_ms, until=is_so), voters(cluster)


def removed(cluster: Cluster, *numbers: int) -> bool:
    return all(cluster.hosts[NodeId(number)].removed is not None for number in numbers)


def grown(*added: int) -> Cluster:
    cluster = served()
    cluster.join(*added)
    assert direct(cluster, adding(cluster, *added)) is None
    wait_for(cluster, 1, 2, 3, *added)
    return cluster


def test_node_when_it_joins_waits_until_it_is_added() -> None:
    cluster = served()
    cluster.join(4)
    cluster.run(3_000)
    assert set(cluster.members_at(1)) == {1, 2, 3}
    assert cluster.waiting_for(4) == "not a member yet: waiting until `viewstamp member add` names this node"


def test_node_when_it_joins_a_cluster_that_is_not_bootstrapped_makes_no_view() -> None:
    cluster = Cluster((2, 3))
    cluster.join(1)
    cluster.start(3)
    cluster.run(3_000)
    assert not cluster.core(1).views.history


def test_node_when_it_is_added_has_everything_before_it_is_in_a_view() -> None:
    cluster = served()
    cluster.join(4)
    cluster.meddle = lambda _, to, message: [] if to == 4 and isinstance(message, Append) else None
    assert direct(cluster, adding(cluster, 4)) is None
    cluster.run(5_000)
    assert set(cluster.members_at(1)) == {1, 2, 3}, "it has nothing yet"
    assert "catching up" in cluster.waiting_for(4)
    cluster.meddle = None
    wait_for(cluster, 1, 2, 3, 4)
    cluster.run(500)
    assert cluster.commands(4) == ["a", "b"]


def test_node_when_it_is_added_as_a_learner_holds_nobody_up() -> None:
    cluster = served()
    cluster.join(4)
    assert direct(cluster, ChangeMembers(add=fresh(cluster, 4))) is None
    cluster.write("c")
    cluster.run(1_000)
    assert cluster.commands(4) == ["a", "b", "c"]
    assert set(cluster.members_at(1)) == {1, 2, 3}
    assert cluster.core(4).status(cluster.now).role == "learner"
    cluster.crash(4)
    cluster.write("d")
    cluster.start(4)
    assert direct(cluster, ChangeMembers(promote=nodes(4)), 2) is None
    wait_for(cluster, 1, 2, 3, 4)


def test_learner_when_the_log_is_compacted_gets_a_snapshot() -> None:
    cluster = served(options=ViewstampedOptions(log_bytes_max=400))
    cluster.write(*(f"command {number}" for number in range(30)))
    assert cluster.core(1).positions.log.base_seqno > 5
    cluster.join(4)
    assert direct(cluster, adding(cluster, 4)) is None
    wait_for(cluster, 1, 2, 3, 4)
    cluster.run(500)
    assert cluster.commands(4) == cluster.commands(1)


def test_cluster_when_it_grows_to_five_and_shrinks_again_loses_nothing() -> None:
    cluster = grown(4, 5)
    cluster.write("c")
    gone = [node for node in (1, 2, 3, 4, 5) if node != cluster.primary][:2]
    assert direct(cluster, ChangeMembers(remove=nodes(*gone)), 2) is None
    left = [node for node in (1, 2, 3, 4, 5) if node not in gone]
    wait_for(cluster, *left)
    cluster.write("d")
    cluster.run(1_000)
    assert all(cluster.commands(node) == ["a", "b", "c", "d"] for node in left)
    assert removed(cluster, *gone)


def test_primary_when_it_is_removed_hands_over_first() -> None:
    cluster = served()
    gone = cluster.primary
    assert gone is not None
    assert direct(cluster, ChangeMembers(remove=nodes(gone))) is None
    left = [node for node in (1, 2, 3) if node != gone]
    wait_for(cluster, *left)
    cluster.run(500)
    assert removed(cluster, gone)
    cluster.write("c")


def test_each_member_when_it_is_replaced_in_turn_leaves_a_cluster_that_serves() -> None:
    cluster = served()
    now = [1, 2, 3]
    for token, (old, new) in enumerate(((1, 4), (2, 5), (3, 6)), start=1):
        cluster.join(new)
        assert direct(cluster, replacing(cluster, (old, new)), token) is None
        now = sorted({*now, new} - {old})
        wait_for(cluster, *now)
        cluster.write(f"after {old}")
    cluster.run(1_000)
    assert removed(cluster, 1, 2, 3)
    assert cluster.commands(6)[-1] == "after 3"


def test_all_three_when_they_are_swapped_at_once_are_one_change() -> None:
    cluster = served()
    cluster.join(4, 5, 6)
    assert direct(cluster, replacing(cluster, (1, 4), (2, 5), (3, 6))) is None
    wait_for(cluster, 4, 5, 6)
    cluster.write("c")
    cluster.run(1_000)
    assert removed(cluster, 1, 2, 3)
    assert all(cluster.commands(node) == ["a", "b", "c"] for node in (4, 5, 6))


@pytest.mark.parametrize("writes", range(1, 24, 2))
def test_swap_when_the_primary_crashes_after_each_write_comes_to_an_end(writes: int) -> None:
    """At each `Persist` of the change the primary's process ends, with what it wrote last unsynced."""
    cluster = served()
    cluster.join(4, 5, 6)
    assert cluster.primary is not None
    host = cluster.hosts[NodeId(cluster.primary)]

    def reached() -> int:
        return host.pending[-1].seq if host.pending else host.written

    stop_at = reached() + writes
    cluster.step(host.node, Directed(DirectiveToken(1), replacing(cluster, (1, 4), (2, 5), (3, 6))))
    cluster.run(5_000, until=lambda: reached() >= stop_at)
    cluster.crash(host.node)
    cluster.run(1_000)
    cluster.start(host.node)
    cluster.run(5_000)
    if voters(cluster) == [1, 2, 3]:
        assert direct(cluster, replacing(cluster, (1, 4), (2, 5), (3, 6)), 2) is None
    wait_for(cluster, 4, 5, 6)
    cluster.write("c")
    cluster.run(2_000)
    assert all(cluster.commands(node) == ["a", "b", "c"] for node in (4, 5, 6))
    assert removed(cluster, 1, 2, 3)


def test_node_when_it_was_away_while_it_was_removed_is_told_so_and_never_let_in() -> None:
    cluster = served()
    gone = next(node for node in (1, 2, 3) if node != cluster.primary)
    cluster.isolate(gone)
    cluster.run(3_000)
    assert direct(cluster, ChangeMembers(remove=nodes(gone))) is None
    wait_for(cluster, *({1, 2, 3} - {gone}))
    cluster.heal()
    cluster.run(3_000)
    assert removed(cluster, gone)
    assert gone not in cluster.members_at(cluster.primary or 0)
    assert (
        cluster.waiting_for(gone)
        == "this data directory was removed from the cluster: it will never serve again"
    )


def test_removed_node_when_it_starts_again_from_its_directory_says_so_at_once() -> None:
    cluster = served()
    gone = next(node for node in (1, 2, 3) if node != cluster.primary)
    assert direct(cluster, ChangeMembers(remove=nodes(gone))) is None
    cluster.run(2_000)
    host = cluster.hosts[NodeId(gone)]
    assert host.removed is not None
    cluster.crash(gone)
    cluster.isolate(gone)
    host.removed = None
    cluster.start(gone)
    cluster.run(500)
    assert host.removed is not None


def test_directory_when_it_was_removed_is_not_added_again_but_an_empty_one_is() -> None:
    cluster = served()
    gone = next(node for node in (1, 2, 3) if node != cluster.primary)
    assert direct(cluster, ChangeMembers(remove=nodes(gone))) is None
    refusal = direct(cluster, adding(cluster, gone), 2)
    assert refusal is not None
    assert refusal.endswith("start it with an empty one")
    cluster.run(1_000)
    cluster.crash(gone)
    cluster.wipe(gone)
    cluster.join(gone)
    cluster.hosts[NodeId(gone)].incarnation = Incarnation(77)
    cluster.crash(gone)
    cluster.start(gone)
    assert direct(cluster, adding(cluster, gone), 3) is None
    wait_for(cluster, 1, 2, 3)


def test_removal_when_the_rest_would_have_no_majority_is_refused_with_the_reason() -> None:
    cluster = grown(4)
    dead = next(node for node in (1, 2, 3, 4) if node != cluster.primary)
    cluster.crash(dead)
    cluster.run(3_000)
    others = [node for node in (1, 2, 3, 4) if node not in {dead, cluster.primary}]
    refusal = direct(cluster, ChangeMembers(remove=nodes(*others)))
    assert refusal == (
        f"without nodes {others[0]}, {others[1]} the cluster would stop, since node {dead} did not answer "
        "lately: bring them back, or remove those first"
    )
    assert direct(cluster, ChangeMembers(remove=nodes(dead)), 2) is None


def test_member_when_it_loses_its_disk_in_a_changed_cluster_comes_back_with_the_new_one() -> None:
    cluster = grown(4)
    cluster.crash(4)
    cluster.wipe(4)
    cluster.run(3_000)
    cluster.write("c")
    cluster.start(4)
    wait_for(cluster, 1, 2, 3, 4)
    configuration = cluster.core(1).views.configuration
    assert configuration is not None
    assert (4, cluster.hosts[NodeId(4)].incarnation) in configuration.voters
    cluster.run(500)
    assert cluster.commands(4)[-1] == "c"


def test_view_when_it_lets_in_a_node_that_is_not_configured_is_not_accepted() -> None:
    cluster = grown(4)
    current = cluster.core(1).views.current
    assert current is not None
    stranger = Member(NodeId(9), Incarnation(9))
    wanted = msgspec.structs.replace(current, view=current.view + 1, members=(*current.members, stranger))
    assert not follows(current, wanted)
    assert follows(current, msgspec.structs.replace(wanted, members=current.members))
    assert not follows(current, msgspec.structs.replace(wanted, members=current.members, changed=None))


def test_operator_when_the_change_is_overtaken_is_told() -> None:
    cluster = served()
    primary = cluster.primary
    assert primary is not None
    cluster.meddle = lambda _, to, message: [] if isinstance(message, Accept | Views) else None
    host = cluster.hosts[NodeId(primary)]
    cluster.step(primary, Directed(DirectiveToken(1), ChangeMembers(remove=nodes(3))))
    cluster.step(primary, Directed(DirectiveToken(2), ChangeMembers(remove=nodes(2))))
    assert host.settled[2] == "another change of the members is under way: try again when it is done"
    cluster.isolate(primary)
    cluster.meddle = None
    cluster.run(3_000)
    cluster.heal()
    assert cluster.run(10_000, until=lambda: 1 in host.settled)


def test_membership_when_it_was_written_by_older_code_is_read() -> None:
    old = msgspec.msgpack.encode((3, ((1, 7),), (1,), 1))
    assert msgspec.msgpack.decode(old, type=Membership).changed is None


def test_transfer_when_the_members_were_changed_reaches_a_new_one() -> None:
    cluster = grown(4)
    assert cluster.primary is not None
    cluster.step(cluster.primary, Directed(DirectiveToken(8), TransferLeadership(NodeId(4))))
    assert cluster.run(5_000, until=lambda: cluster.primary == 4)
    assert cluster.now > MS


def test_added_node_when_it_gets_nothing_is_not_let_in() -> None:
    cluster = served()
    cluster.write(*(f"command {number}" for number in range(300)))
    cluster.join(4)
    cluster.meddle = lambda _, to, message: [] if to == 4 and isinstance(message, Append) else None
    primary = cluster.core(cluster.primary or 0)
    configuration = primary.changes.current
    added = configuration.learning(fresh(cluster, 4), returning=(), successors=()).promoting(NodeId(4))
    primary.changes._configure(added)  # as if it had been found to keep up, and stopped
    cluster.run(3_000)
    assert primary.views.configuration == added
    assert 4 not in cluster.members_at(1)
    cluster.meddle = None
    wait_for(cluster, 1, 2, 3, 4)


def test_member_when_it_is_removed_helps_to_agree_on_the_view_without_it() -> None:
    """A view of two cannot go on without one of them, also if that one is to leave."""
    cluster = served(1, 2)
    other = next(node for node in (1, 2) if node != cluster.primary)
    ended: list[int] = []

    def end_when_told() -> bool:
        if cluster.hosts[NodeId(other)].removed is not None and not ended:
            ended.append(other)
            cluster.crash(other)
        return len(cluster.members_at(cluster.primary or 3 - other)) == 1

    assert cluster.primary is not None
    cluster.step(cluster.primary, Directed(DirectiveToken(1), ChangeMembers(remove=nodes(other))))
    assert cluster.run(5_000, until=end_when_told)
    cluster.run(1_000)
    cluster.write("c")


def test_view_when_it_lets_in_a_removed_node_is_not_accepted() -> None:
    cluster = served()
    gone = next(node for node in (1, 2, 3) if node != cluster.primary)
    assert direct(cluster, ChangeMembers(remove=nodes(gone))) is None
    wait_for(cluster, *({1, 2, 3} - {gone}))
    current = cluster.core(cluster.primary or 0).views.current
    assert current is not None
    member = Member(NodeId(gone), cluster.hosts[NodeId(gone)].incarnation)
    wanted = msgspec.structs.replace(current, view=current.view + 1, members=(*current.members, member))
    assert not follows(current, wanted)


def test_removed_lowest_node_when_it_is_wiped_asks_nobody_whether_it_may_begin() -> None:
    cluster = Cluster((2, 3))
    cluster.join(1)
    cluster.run(2_000)
    assert not [message for _, _, message in cluster.sent if isinstance(message, BootstrapQuery)]


def test_change_when_a_removed_member_is_still_in_the_view_is_not_done() -> None:
    cluster = served()
    gone = next(node for node in (1, 2, 3) if node != cluster.primary)
    assert direct(cluster, ChangeMembers(remove=nodes(gone))) is None
    assert gone not in cluster.members_at(cluster.primary or 0)


def test_change_when_a_member_dies_at_the_same_time_comes_after_its_removal() -> None:
    cluster = served(1, 2, 3, 4, 5)
    primary = cluster.primary
    assert primary is not None
    first, second = [node for node in (1, 2, 3, 4, 5) if node != primary][-2:]
    cluster.crash(first)
    cluster.meddle = lambda *letter: [] if isinstance(letter[2], Prepare) else None
    cluster.step(primary, Directed(DirectiveToken(1), ChangeMembers(remove=nodes(second))))
    cluster.run(1_500)
    cluster.meddle = None
    assert cluster.run(5_000, until=lambda: 1 in cluster.hosts[NodeId(primary)].settled)
    assert cluster.hosts[NodeId(primary)].settled[1] is None
    left = {1, 2, 3, 4, 5} - {first, second}
    assert cluster.run(5_000, until=lambda: {*cluster.members_at(primary)} == left)
    without = [set(view) for view in cluster.views_at(primary)]
    assert {1, 2, 3, 4, 5} - {first} in without, "the dead one went first"


def test_joining_node_when_all_that_it_knows_are_gone_asks_the_member_that_calls_it() -> None:
    cluster = served()
    cluster.join(4, 5, 6)
    assert direct(cluster, replacing(cluster, (1, 4), (2, 5), (3, 6))) is None
    wait_for(cluster, 4, 5, 6)
    cluster.run(1_000)
    cluster.crash(1, 2, 3)
    cluster.join(7)  # it knows 1, 2 and 3, from a file of long ago
    assert direct(cluster, adding(cluster, 7), 2) is None
    wait_for(cluster, 4, 5, 6, 7)


def test_member_when_it_lost_its_disk_is_brought_up_before_it_is_admitted_again() -> None:
    cluster = served(options=ViewstampedOptions(uncommitted_entries_max=2))
    cluster.join(4)
    assert direct(cluster, adding(cluster, 4)) is None
    wait_for(cluster, 1, 2, 3, 4)
    cluster.write(*(f"command {number}" for number in range(10)))
    cluster.crash(4)
    cluster.wipe(4)
    cluster.run(3_000)
    cluster.start(4)
    wait_for(cluster, 1, 2, 3, 4)


def test_primary_when_it_lost_its_disk_does_not_learn_from_itself() -> None:
    cluster = grown(4)
    primary = cluster.primary
    assert primary is not None
    cluster.crash(primary)
    cluster.wipe(primary)
    cluster.start(primary)
    views = cluster.core(primary).views
    assert cluster.run(5_000, until=lambda: views.is_follower)
    assert views.current is not None
    assert views.current.primary == primary, "its own earlier incarnation"
    wait_for(cluster, 1, 2, 3, 4)
    assert [message for source, to, message in cluster.sent if source == to] == []

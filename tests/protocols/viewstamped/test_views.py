"""The configuration layer through a cluster: heartbeats, removals, joins, bootstrap, catching up."""

from collections import Counter

import pytest

from tests.protocols.viewstamped.harness import MS, Cluster, cluster_of
from viewstamp.core.events import PeerDown, Received, Woke
from viewstamp.core.ids import Incarnation, Instant, NodeId, View
from viewstamp.protocols.viewstamped import views
from viewstamp.protocols.viewstamped.membership import Member
from viewstamp.protocols.viewstamped.messages import (
    Ballot,
    BootstrapQuery,
    Join,
    NotBootstrapped,
    Ping,
    Pong,
    Prepare,
    Prepared,
    Views,
    WantViews,
)
from viewstamp.protocols.viewstamped.options import ViewstampedOptions


def sent(cluster: Cluster, kind: type, source: int | None = None) -> list[tuple[int, int]]:
    return [
        (int(here), int(there))
        for here, there, message in cluster.sent
        if isinstance(message, kind) and source in {None, here}
    ]


# Heartbeats


def test_the_lowest_pings_all_and_all_others_answer() -> None:
    cluster = cluster_of(1, 2, 3, 4)
    cluster.sent.clear()
    cluster.run(500)
    assert set(sent(cluster, Ping)) == {(1, 2), (1, 3), (1, 4)}
    assert set(sent(cluster, Pong)) == {(2, 1), (3, 1), (4, 1)}


def test_only_the_lowest_proposes_when_a_higher_member_died() -> None:
    cluster = cluster_of(1, 2, 3, 4)
    cluster.crash(3)
    cluster.sent.clear()
    cluster.form(1, 2, 4)
    assert {source for source, _ in sent(cluster, Prepare)} == {1}


def test_nobody_else_proposes_when_the_lowest_cannot_finish() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.meddle = lambda _, __, message: () if isinstance(message, Prepare) else None
    cluster.crash(3)
    cluster.sent.clear()
    cluster.run(5_000)
    assert {source for source, _ in sent(cluster, Prepare)} == {1}


def test_the_next_proposes_first_when_the_lowest_died() -> None:
    cluster = cluster_of(1, 2, 3, 4)
    cluster.crash(1)
    cluster.sent.clear()
    cluster.form(2, 3, 4)
    assert {source for source, _ in sent(cluster, Prepare)} == {2}


def test_the_one_after_proposes_when_the_two_lowest_died() -> None:
    cluster = cluster_of(1, 2, 3, 4, 5)
    cluster.crash(1, 2)
    cluster.form(3, 4, 5)
    assert cluster.views_at(3)[5:] == [(2, 3, 4, 5), (3, 4, 5)]


def test_nobody_is_removed_when_the_lowest_was_paused() -> None:
    cluster = cluster_of(1, 2, 3, options=ViewstampedOptions(heartbeat_misses_max=4))
    core = cluster.core(1)
    paused_until = Instant(cluster.now + 60_000 * MS)
    core.step(Woke(), paused_until)
    core.step(Woke(), Instant(paused_until + 100 * MS))
    assert core.views.proposal.phase == "idle"


def test_the_one_that_promises_is_kept_when_all_others_were_silent() -> None:
    # To remove 2, the lowest that was silent, would leave 1 alone with a node that has lost its disk.
    cluster = cluster_of(1, 2, 3)
    cluster.crash(3)
    cluster.wipe(3)
    cluster.meddle = lambda _, __, message: () if isinstance(message, Ping | Pong) else None
    assert cluster.run(10_000, until=lambda: cluster.core(1).view == 4)
    cluster.meddle = None
    assert cluster.views_at(1)[3] == (1, 2)
    cluster.start(3)
    cluster.form(1, 2, 3)


def test_a_view_waits_for_the_members_that_must_carry_it_when_the_primary_died_after_its_report() -> None:
    # The primary, not the lowest, has reported 3. To believe it now would leave 1 alone with a dead node.
    cluster = Cluster([2, 3])
    cluster.start(2, 3)
    cluster.form(2, 3)
    cluster.start(1, bootstrap="join", contact=2)
    cluster.form(1, 2, 3)
    cluster.cut |= {(NodeId(2), NodeId(3)), (NodeId(3), NodeId(2))}
    assert cluster.run(5_000, until=lambda: cluster.core(1).views.proposal.phase == "preparing")
    cluster.crash(2)
    cluster.form(1, 3)


def test_who_promises_is_not_removed_when_it_was_silent_for_a_while() -> None:
    cluster = cluster_of(1, 2)
    cluster.meddle = lambda _, __, message: () if isinstance(message, Ping | Pong) else None
    cluster.run(3_000)
    assert any(isinstance(message, Prepared) for _, _, message in cluster.sent)
    cluster.meddle = None
    cluster.run(1_000)
    assert cluster.views_at(1) == cluster.views_at(2) == [(1,), (1, 2)]
    cluster.write("a")


def test_a_ping_of_a_wiped_node_does_not_count() -> None:
    cluster = cluster_of(1, 2, 3)
    core, other = cluster.core(1), Incarnation(4711)
    cluster.crash(3)
    for _ in range(20):
        for sign in (Pong(core.group, core.view, other), Ping(core.group, core.view, other, (), heard=True)):
            cluster.step(1, Received(NodeId(3), sign))
        cluster.run(100)
    cluster.form(1, 2)


def test_a_ping_does_not_count_when_its_sender_hears_nothing() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.cut |= {(NodeId(2), NodeId(1)), (NodeId(3), NodeId(1))}
    before = cluster.now
    cluster.form(2, 3)
    assert cluster.now - before <= 800 * MS


def test_pings_and_their_answers_are_all_when_nothing_happens() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.run(1_000)
    cluster.sent.clear()
    cluster.run(4_000)
    count = Counter((int(source), type(message).__name__) for source, _, message in cluster.sent)
    pings = {(1, "Ping"): 80, (2, "Pong"): 40, (3, "Pong"): 40}
    appends = {(1, "Append"): 20, (2, "Appended"): 10, (3, "Appended"): 10}
    assert count == pings | appends


def test_a_backup_pings_the_lowest_when_it_was_not_heard() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.run(500)
    cluster.sent.clear()
    lost = iter((True, True))
    cluster.meddle = lambda source, to, message: (
        () if (source, to) == (1, 2) and isinstance(message, Ping) and next(lost, False) else None
    )
    cluster.run(500)
    assert 1 <= sent(cluster, Ping, 2).count((2, 1)) <= 2
    assert cluster.members_at(2) == (1, 2, 3)


def test_a_member_is_removed_when_it_died_after_its_promise() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.meddle = lambda _, __, message: () if isinstance(message, Prepare) else None
    cluster.crash(3)
    proposer = cluster.core(1).views.proposal
    assert cluster.run(2_000, until=lambda: proposer.phase == "preparing")
    for node in (3, 2):
        proposer.promised_by(NodeId(node), None, None, synchronised=True)
    cluster.meddle = None
    cluster.form(1, 2)


def test_a_broken_connection_alone_removes_nobody() -> None:
    cluster = cluster_of(1, 2, 3)
    for _ in range(30):
        cluster.step(1, PeerDown(NodeId(3)))
        cluster.run(120)
    assert cluster.views_at(1) == [(1,), (1, 2), (1, 2, 3)]


def test_a_member_is_removed_when_it_hears_nothing_of_the_lowest() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.cut.add((NodeId(1), NodeId(3)))
    cluster.form(1, 2)
    assert cluster.views_at(1)[3:] == [(1, 2)]


def test_a_node_is_not_admitted_when_the_primary_cannot_reach_it() -> None:
    cluster = cluster_of(1, 2)
    cluster.cut.add((NodeId(1), NodeId(3)))
    cluster.start(3, bootstrap="join", contact=1)
    cluster.run(10_000)
    assert cluster.views_at(1) == [(1,), (1, 2)]
    cluster.heal()
    cluster.form(1, 2, 3)


def test_a_member_is_removed_when_the_primary_but_not_the_lowest_cannot_reach_it() -> None:
    cluster = Cluster([2, 3, 4])
    cluster.start(2, 3, 4)
    cluster.form(2, 3, 4)
    cluster.start(1, bootstrap="join", contact=2)
    cluster.form(1, 2, 3, 4)
    assert cluster.core(1).leader == 2
    cluster.cut |= {(NodeId(2), NodeId(4)), (NodeId(4), NodeId(2))}
    cluster.form(1, 2, 3)
    cluster.write("a")


def test_a_node_asks_less_often_when_its_memberships_are_short() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.meddle = lambda source, target, message: (
        () if {source, target} == {1, 3} and not isinstance(message, Join | Views) else None
    )
    cluster.run(30_000)
    assert cluster.core(1).view < 25
    cluster.meddle = None
    cluster.form(1, 2, 3)


# Paxos in a cluster


def test_a_proposer_stands_back_when_a_higher_ballot_was_promised() -> None:
    cluster = cluster_of(1, 2, 3)
    group = cluster.core(1).group
    for node in (2, 3):
        other = NodeId(5 - node)
        cluster.step(node, Received(other, Prepare(group, View(4), Ballot(50, other))))
    cluster.run(50)
    cluster.crash(3)
    seen = []

    def formed() -> bool:
        seen.append(cluster.core(1).views.proposal.seen_number)
        return cluster.members_at(1) == (1, 2)

    assert cluster.run(5_000, until=formed)
    assert max(seen) >= 50


def test_two_proposers_agree_when_both_want_another_view() -> None:
    for seed in range(10):
        cluster = cluster_of(1, 2, 3, 4, 5, seed=seed)
        cluster.crash(5)
        cluster.isolate(1)
        cluster.run(490 + 10 * seed)
        cluster.heal()
        cluster.run(5_000)
        histories = {tuple(cluster.views_at(node)) for node in (1, 2, 3, 4)}
        assert len(histories) == 1
        assert set(cluster.members_at(2)) == {1, 2, 3, 4}


def test_a_lonely_survivor_does_not_fill_its_journal() -> None:
    cluster = cluster_of(1, 2)
    cluster.crash(2)
    cluster.run(2_000)
    written = cluster.hosts[NodeId(1)].written
    cluster.run(60_000)
    assert cluster.hosts[NodeId(1)].written == written
    assert cluster.waiting_for(1).startswith("a majority of view 2 to agree on the next view; silent: 2")


def test_a_stranger_is_not_heard_when_it_prepares() -> None:
    cluster = cluster_of(1, 2)
    core = cluster.core(2)
    cluster.sent.clear()
    cluster.step(2, Received(NodeId(9), Prepare(core.group, View(3), Ballot(9, NodeId(9)))))
    cluster.step(2, Received(NodeId(1), Prepare(core.group, View(3), Ballot(9, NodeId(9)))))
    cluster.step(2, Received(NodeId(1), Prepare(core.group, View(3), Ballot(2**62, NodeId(1)))))
    cluster.run(5)
    assert sent(cluster, Prepared) == []
    assert core.views.acceptor.promised.number == 0


# Catching up


def test_a_member_that_missed_the_decision_learns_it_from_a_heartbeat() -> None:
    cluster = cluster_of(1, 2, 3, 4)
    cluster.meddle = lambda _, target, message: () if isinstance(message, Views) and target == 3 else None
    cluster.crash(4)
    assert cluster.run(3_000, until=lambda: cluster.core(2).view == 5)
    assert cluster.core(3).view == 4
    cluster.meddle = None
    cluster.form(1, 2, 3)


def test_a_long_history_arrives_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "VIEWS_PER_MESSAGE_MAX", 4)
    cluster = cluster_of(1)
    for _ in range(10):
        cluster.crash(1)
        cluster.start(1)
        cluster.form(1)
    cluster.sent.clear()
    cluster.start(2, bootstrap="join", contact=1)
    cluster.form(1, 2)
    assert len(sent(cluster, Views, 1)) >= 3
    assert cluster.views_at(2) == cluster.views_at(1)


def test_only_what_is_known_is_shown_when_views_are_wanted() -> None:
    cluster = cluster_of(1, 2)
    group = cluster.core(1).group
    cluster.sent.clear()
    for after in (-5, 2, 3, 2**60):
        cluster.step(1, Received(NodeId(2), WantViews(group, View(after))))
    assert sent(cluster, Views) == []


def test_views_that_are_known_are_passed_over_when_new_ones_follow() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.isolate(3)
    cluster.form(1, 2)
    message = Views(cluster.core(1).group, tuple(cluster.core(1).views.history), View(4))
    before = cluster.core(3).counters.total()
    cluster.step(3, Received(NodeId(1), message))
    assert (cluster.core(3).view, cluster.core(3).counters.total()) == (4, before)


# Joining and bootstrap


def test_view_1_is_not_made_when_one_configured_member_does_not_answer() -> None:
    cluster = Cluster([1, 2, 3])
    cluster.start(1, 2)
    cluster.run(5_000)
    assert cluster.views_at(1) == []
    assert cluster.waiting_for(1) == "nodes 3 to say whether they know a view"
    cluster.start(3)
    cluster.form(1, 2, 3)


def test_an_answer_to_an_earlier_life_does_not_count() -> None:
    cluster = Cluster([1, 2])
    cluster.start(1)
    cluster.step(1, Received(NodeId(2), NotBootstrapped(Incarnation(4711))))
    cluster.step(1, Received(NodeId(9), NotBootstrapped(cluster.hosts[NodeId(1)].incarnation)))
    assert cluster.views_at(1) == []
    cluster.step(1, Received(NodeId(2), NotBootstrapped(cluster.hosts[NodeId(1)].incarnation)))
    assert cluster.views_at(1) == [(1,)]


def test_view_1_is_made_when_another_member_passes_on_what_one_says_that_is_cut_off() -> None:
    cluster = Cluster([1, 2, 3])
    cluster.start(1, 2)
    asked = cluster.hosts[NodeId(1)].incarnation
    cluster.sent.clear()
    cluster.step(2, Received(NodeId(1), BootstrapQuery(asked)))
    assert (2, 3, BootstrapQuery(asked, forwarded=True)) in cluster.sent
    cluster.step(2, Received(NodeId(3), NotBootstrapped(asked)))
    cluster.step(2, Received(NodeId(1), BootstrapQuery(asked)))
    assert cluster.sent[-1] == (2, 1, NotBootstrapped(asked, (NodeId(3),)))
    cluster.step(1, Received(NodeId(2), NotBootstrapped(asked, (NodeId(3),))))
    assert cluster.views_at(1) == [(1,)]


def test_what_was_said_to_an_earlier_life_of_the_lowest_is_not_passed_on() -> None:
    cluster = Cluster([1, 2, 3])
    cluster.start(2)
    cluster.step(2, Received(NodeId(1), BootstrapQuery(Incarnation(4711))))
    cluster.step(2, Received(NodeId(3), NotBootstrapped(Incarnation(4711))))
    cluster.step(2, Received(NodeId(1), BootstrapQuery(Incarnation(4712))))
    cluster.step(2, Received(NodeId(3), NotBootstrapped(Incarnation(4711))))
    cluster.step(2, Received(NodeId(1), BootstrapQuery(Incarnation(4712))))
    assert cluster.sent[-1] == (2, 1, NotBootstrapped(Incarnation(4712)))


def test_a_member_that_is_asked_on_behalf_of_another_asks_nobody() -> None:
    cluster = Cluster([1, 2, 3])
    cluster.start(2)
    cluster.sent.clear()
    cluster.step(2, Received(NodeId(3), BootstrapQuery(Incarnation(4711), forwarded=True)))
    assert [message for _, _, message in cluster.sent] == [NotBootstrapped(Incarnation(4711))]


def test_a_node_that_knows_views_sends_them_when_asked_before_a_bootstrap() -> None:
    cluster = cluster_of(1, 2)
    cluster.sent.clear()
    cluster.step(2, Received(NodeId(9), BootstrapQuery(Incarnation(3))))
    cluster.run(5)
    assert sent(cluster, Views, 2) == [(2, 9)]


def test_a_node_is_admitted_once_when_it_asks_many_times() -> None:
    cluster = cluster_of(1, 2)
    ask = Join(cluster.core(1).group, Member(NodeId(3), Incarnation(3001)), View(0))
    for _ in range(5):
        cluster.step(1, Received(NodeId(3), ask))
    cluster.start(3, bootstrap="join", contact=1)
    cluster.form(1, 2, 3)
    assert cluster.views_at(1) == [(1,), (1, 2), (1, 2, 3)]


def test_a_node_is_admitted_by_the_primary_when_it_asks_a_backup() -> None:
    cluster = cluster_of(1, 2)
    cluster.start(3, bootstrap="join", contact=2)
    cluster.form(1, 2, 3)


@pytest.mark.parametrize("source", [3, 2])
def test_a_join_in_the_name_of_another_is_not_heard(source: int) -> None:
    cluster = cluster_of(1, 2)
    ask = Join(cluster.core(1).group, Member(NodeId(4), Incarnation(4001)), View(2), answered=True)
    cluster.step(1, Received(NodeId(source), ask))
    cluster.run(1_000)
    assert cluster.views_at(1) == [(1,), (1, 2)]


def test_a_member_finds_the_others_when_all_that_it_takes_for_members_have_gone() -> None:
    cluster = cluster_of(1, 2, 3, 4, 5)
    cluster.crash(4, 5)
    cluster.form(1, 2, 3)
    cluster.isolate(1)
    cluster.start(4, 5)
    cluster.form(2, 3, 4, 5)
    cluster.crash(2)
    cluster.form(3, 4, 5)
    cluster.crash(3)
    assert cluster.run(5_000, until=lambda: cluster.members_at(4) == (4, 5))
    assert cluster.members_at(1) == (1, 2, 3)
    cluster.heal()
    cluster.form(1, 4, 5)


def test_joiners_are_forgotten_when_they_stop_asking() -> None:
    cluster = cluster_of(1, 2)
    cluster.isolate(2)
    ask = Join(cluster.core(1).group, Member(NodeId(3), Incarnation(3001)), View(2), answered=True)
    cluster.step(1, Received(NodeId(3), ask))
    cluster.run(5_000)
    cluster.heal()
    cluster.run(5_000)
    assert 3 not in cluster.members_at(2)


def test_a_joiner_is_not_admitted_when_its_connection_broke() -> None:
    cluster = cluster_of(1, 2)
    cluster.isolate(2)
    ask = Join(cluster.core(1).group, Member(NodeId(3), Incarnation(3001)), View(2), answered=True)
    cluster.step(1, Received(NodeId(3), ask))
    cluster.step(1, PeerDown(NodeId(3)))
    cluster.heal()
    cluster.run(5_000)
    assert cluster.views_at(1) == [(1,), (1, 2)]


def test_a_joiner_that_died_does_not_carry_the_view_that_admits_it() -> None:
    # With it the view would have six members, of whom three live.
    cluster = cluster_of(1, 2, 3, 4, 5)
    cluster.crash(4, 5)
    view = cluster.core(1).view
    ask = Join(cluster.core(1).group, Member(NodeId(6), Incarnation(6001)), view, answered=True)
    cluster.step(1, Received(NodeId(6), ask))
    cluster.form(1, 2, 3)


def test_joiners_are_not_remembered_when_too_many_ask() -> None:
    cluster = cluster_of(1, 2, options=ViewstampedOptions(joiners_max=2))
    cluster.isolate(2)
    group = cluster.core(1).group
    for node in range(10, 20):
        ask = Join(group, Member(NodeId(node), Incarnation(node)), View(2), answered=True)
        cluster.step(1, Received(NodeId(node), ask))
    assert len(cluster.core(1).views.joiners) == 2

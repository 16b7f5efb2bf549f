"""Scripts of views, one for each mutation of viewstamped that random seeds find late or not at all."""

from typing import Any

from tests.protocols.viewstamped.harness import MS, Cluster, cluster_of
from tests.protocols.viewstamped.test_roles import append, feed, quiet, stamp
from viewstamp.core.events import Directed, DirectiveToken, TakeSnapshot
from viewstamp.core.ids import Incarnation, NodeId, View
from viewstamp.protocols.replication.log import COMMAND, decode_entry
from viewstamp.protocols.viewstamped.messages import (
    Accepted,
    Append,
    Appended,
    Ballot,
    Chunk,
    Ping,
    Pong,
    Probed,
)
from viewstamp.protocols.viewstamped.options import ViewstampedOptions

# Paxos


def test_what_was_accepted_survives_when_the_journal_was_written_again() -> None:
    cluster = cluster_of(1, 2, 3, options=ViewstampedOptions(log_bytes_max=None, inflight_bytes_max=1))
    cluster.write("a")
    cluster.crash(3)
    cluster.meddle = lambda _, __, message: () if isinstance(message, Accepted) else None
    acceptor = cluster.core(2).views.acceptor
    assert cluster.run(2_000, until=lambda: acceptor.value is not None)
    host = cluster.hosts[NodeId(2)]
    written = host.written
    cluster.step(2, Directed(DirectiveToken(1), TakeSnapshot()))
    cluster.run(0)
    assert host.released_before > written
    cluster.crash(2)
    cluster.start(2)
    assert cluster.core(2).views.acceptor.value == acceptor.value


def test_a_view_is_not_chosen_when_acceptors_reject_it() -> None:
    cluster = cluster_of(1, 2, 3)
    cluster.crash(3)
    cluster.meddle = lambda _, __, message: () if isinstance(message, Accepted | Ping | Pong) else None
    core = cluster.core(1)
    proposer = core.views.proposal
    assert cluster.run(2_000, until=lambda: proposer.phase == "accepting")
    higher = Ballot(proposer.ballot.number + 1, NodeId(2))
    feed(cluster, 1, 2, Accepted(core.group, proposer.instance, proposer.ballot, higher))
    assert core.view == 3


def test_a_wiped_node_is_removed_though_it_answers_pings() -> None:
    cluster = cluster_of(1, 2, 3)
    core = cluster.core(1)
    cluster.crash(3)
    for _ in range(12):
        feed(cluster, 1, 3, Pong(core.group, core.view, Incarnation(4711)))
        cluster.run(100)
    assert set(cluster.members_at(1)) == {1, 2}


# Synchronisation


def test_a_primary_serves_only_when_its_disk_knows_that_the_view_is_synchronised() -> None:
    cluster = Cluster([1, 2], disk_us=20 * MS)
    cluster.start(1, 2)
    assert cluster.run(5_000, until=lambda: cluster.members_at(1) == (1, 2) and cluster.core(1).accepting)
    assert cluster.hosts[NodeId(1)].image.synchronised == 2


def test_an_unsynchronised_view_sends_only_what_is_on_the_primary_s_disk() -> None:
    # The lowest decides, another leads: the backups ask it for entries before its disk has answered.
    cluster = Cluster([2, 3, 4])
    cluster.start(2, 3, 4)
    cluster.form(2, 3, 4)
    cluster.start(1, bootstrap="join", contact=2)
    cluster.form(1, 2, 3, 4)
    cluster.disk_us = 20 * MS
    early: list[Append] = []

    def watch(source: NodeId, _: NodeId, message: Any) -> None:
        host = cluster.hosts[source]
        if isinstance(message, Append) and message.records and host.core is not None:
            entry = decode_entry(message.records[-1])
            if not host.image.holds(stamp(entry.view, entry.seqno)) and not host.core.accepting:
                early.append(message)

    cluster.meddle = watch
    cluster.crash(4)
    cluster.form(1, 2, 3)
    assert cluster.core(1).leader == 2
    assert early == []


def test_a_backup_does_not_take_an_older_commit_for_the_synchronisation_of_its_view() -> None:
    cluster = cluster_of(1, 2)
    cluster.write("a")
    cluster.run(50)
    cluster.meddle = lambda _, to, message: () if to == 3 and isinstance(message, Append | Chunk) else None
    cluster.start(3, bootstrap="join", contact=1)
    assert cluster.run(2_000, until=lambda: cluster.core(2).view == 3)
    cluster.run(500)
    assert cluster.core(2).positions.committed > 0
    assert not cluster.core(2).views.is_synchronised


# Entries


def test_a_backup_acknowledges_no_more_than_its_primary_has_shown() -> None:
    cluster = quiet(1, 2)
    shown = cluster.core(2).positions.log.viewstamp_at(2)
    assert shown.seqno < cluster.core(2).positions.log.last.seqno
    (answer,) = feed(cluster, 2, 1, append(cluster, shown))
    assert answer == Appended(cluster.core(1).group, View(2), shown)


def test_a_backup_commits_no_more_than_its_primary_has_shown() -> None:
    cluster = quiet(1, 2)
    core = cluster.core(2)
    last = core.positions.log.last
    cluster.propose("b", 1)
    (sent,) = [each for _, to, each in cluster.sent if to == 2 and isinstance(each, Append)]
    feed(cluster, 2, 1, sent)
    assert core.positions.log.last.seqno == last.seqno + 1
    feed(cluster, 2, 1, append(cluster, last, committed=last.seqno + 1))
    assert core.positions.committed == last.seqno


def test_a_backup_takes_nothing_after_an_entry_that_it_does_not_have() -> None:
    cluster = quiet(1, 2)
    last = cluster.core(2).positions.log.last
    answers = feed(cluster, 2, 1, append(cluster, stamp(last.view - 1, last.seqno)))
    assert not any(isinstance(each, Appended) for each in answers)


def test_an_entry_that_replaced_another_is_not_durable_before_it_is_written() -> None:
    cluster = quiet(1, 2)
    positions = cluster.core(2).positions
    cluster.propose("b", 1)
    (sent,) = [each for _, to, each in cluster.sent if to == 2 and isinstance(each, Append)]
    feed(cluster, 2, 1, sent)
    last = positions.log.last
    assert positions.durable == last.seqno
    positions.cut_after(last.seqno - 1)
    positions.append_own(last.view, COMMAND, b"other")
    assert positions.durable == last.seqno - 1


# Reads


def test_a_read_is_not_answered_when_the_primary_is_cut_off() -> None:
    cluster = quiet(1, 2, 3)
    token = cluster.query(1)
    cluster.run(300)
    assert cluster.answer(1, token) == "waiting"


def confirm(cluster: Cluster, node: int, number: int) -> None:
    core = cluster.core(1)
    feed(cluster, 1, node, Probed(core.group, core.view, number))


def test_a_read_waits_for_the_next_round_when_one_is_in_flight() -> None:
    cluster = quiet(1, 2, 3)
    first = cluster.query(1)
    confirm(cluster, 2, 1)
    late = cluster.query(1)
    confirm(cluster, 3, 1)
    assert isinstance(cluster.answer(1, first), int)
    assert cluster.answer(1, late) == "waiting"
    confirm(cluster, 2, 2)
    confirm(cluster, 3, 2)
    assert isinstance(cluster.answer(1, late), int)


def test_a_confirmation_of_an_older_round_does_not_count() -> None:
    cluster = quiet(1, 2, 3)
    cluster.query(1)
    late = cluster.query(1)
    for _ in range(2):
        confirm(cluster, 2, 1)
        confirm(cluster, 3, 1)
    assert cluster.answer(1, late) == "waiting"


def test_a_read_is_answered_when_what_was_acknowledged_before_is_applied() -> None:
    # More than is applied in one step, so that what is committed and what is applied differ for a while.
    count = ViewstampedOptions().applies_per_step_max + 100
    cluster = cluster_of(1)
    for number in range(count):
        cluster.propose(str(number), 1)
        cluster.run(0)
    cluster.crash(1)
    cluster.start(1)
    tokens: list[tuple[int, int]] = []

    def read_as_soon_as_there_is_a_primary() -> bool:
        for node in cluster.running:
            if not tokens and cluster.core(node).role.primary is not None:
                tokens.append((node, cluster.query(node)))
        return bool(tokens) and isinstance(cluster.answer(*tokens[0]), int)

    assert cluster.run(5_000, until=read_as_soon_as_there_is_a_primary)
    length = cluster.answer(*tokens[0])
    assert isinstance(length, int)
    assert length > count

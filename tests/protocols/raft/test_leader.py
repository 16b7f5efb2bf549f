from random import Random

import pytest

from tests.protocols.raft.harness import Cluster, Letter, kinds, propose_all
from viewstamp.core.effects import Send
from viewstamp.core.events import Persisted, Received
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.protocols.raft import RaftOptions
from viewstamp.protocols.raft.messages import AppendEntries, AppendRejected, AppendResponse
from viewstamp.protocols.raft.state import Role
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, encode_record


def settled(size: int = 3, **options: int) -> tuple[Cluster, int]:
    cluster = Cluster(size, options=RaftOptions(**options))
    return cluster, cluster.elect()


def record(term: int, seqno: int, data: bytes = b"x") -> bytes:
    return encode_record(EntryRecord(term, seqno, COMMAND, data))


def test_agreements_when_there_are_ten_take_at_most_42_messages() -> None:
    cluster, _leader = settled()
    before = cluster.sent
    propose_all(cluster, [b"%d" % number for number in range(10)])
    assert cluster.sent - before <= 42
    cluster.run(150)
    assert all(len(cluster.commands(node)) == 10 for node in cluster.members)


def test_bytes_when_nothing_is_lost_are_sent_once_to_each_peer() -> None:
    cluster, _leader = settled()
    before = cluster.sent_bytes
    propose_all(cluster, [bytes(5_000)] * 10)
    cluster.run(200)
    assert cluster.sent_bytes - before < 2 * 10 * 5_000 + 5_000


def test_entries_when_they_are_proposed_leave_before_they_are_on_disk() -> None:
    cluster, leader = settled()
    cluster.nodes[NodeId(leader)].disk.held = True
    cluster.propose(leader, b"x")
    assert kinds(list(cluster.letters)) == ["AppendEntries"] * 2
    cluster.settle()
    assert cluster.core(leader).state.committed == 2, "the two followers are a majority without the leader"
    other = cluster.followers()[0]
    cluster.crash(other)
    cluster.propose(leader, b"y")
    cluster.settle()
    assert cluster.core(leader).state.committed == 2, "its own disk does not count before it is written"
    cluster.nodes[NodeId(leader)].disk.held = False
    cluster.sync(leader)
    assert cluster.core(leader).state.committed == 3


def test_acknowledgements_when_the_disk_is_slow_become_one() -> None:
    cluster, leader = settled()
    follower = cluster.followers()[0]
    cluster.nodes[NodeId(follower)].disk.held = True
    for number in range(5):
        cluster.propose(leader, b"%d" % number)
    while cluster.deliver_next(lambda letter: letter.to == follower):
        pass
    answers = [letter for letter in cluster.letters if letter.source == follower]
    assert answers == []
    cluster.sync(follower)
    answers = [letter for letter in cluster.letters if letter.source == follower]
    assert [letter.message.matched_seqno for letter in answers] == [6]


def test_acknowledgements_when_more_keeps_coming_are_not_put_off() -> None:
    cluster, leader = settled()
    follower = cluster.followers()[0]
    core = cluster.core(follower)
    cluster.nodes[NodeId(follower)].disk.held = True
    begun = core.state.outbox.written
    for number in range(4):
        cluster.propose(leader, b"%d" % number)
        cluster.deliver_next(lambda letter: letter.to == follower)
        if number:
            effects = core.step(Persisted(type(begun)(begun + number)), cluster.now)
            assert [effect.message.matched_seqno for effect in effects] == [1 + number]  # type: ignore[union-attr]


def test_acknowledgement_when_its_term_ends_before_the_term_is_on_disk_is_taken_back() -> None:
    cluster, leader = settled()
    follower, other = cluster.followers()
    cluster.propose(leader, b"x")
    cluster.deliver_next(lambda letter: letter.to == follower)
    cluster.sync(follower)
    core, me = cluster.core(follower), cluster.nodes[NodeId(follower)].incarnation
    assert core.state.log.durable_seqno == 2
    heartbeat = AppendEntries(
        term=2, to=me, previous_view=1, previous_seqno=2, entries=[], committed=1, round=0, attempt=0
    )
    core.step(Received(NodeId(other), heartbeat), cluster.now)
    core.step(
        Received(
            NodeId(leader),
            AppendEntries(
                term=3,
                to=me,
                previous_view=1,
                previous_seqno=1,
                entries=[record(3, 2)],
                committed=1,
                round=0,
                attempt=0,
            ),
        ),
        cluster.now,
    )
    effects = core.step(Persisted(core.state.outbox.written), cluster.now)
    answers = [effect.message for effect in effects if isinstance(effect, Send)]
    assert [(each.term, each.matched_view, each.matched_seqno) for each in answers] == [(3, 3, 2)]


def test_window_when_it_is_full_holds_back_and_opens_again() -> None:
    cluster, leader = settled(inflight_messages_max=3, uncommitted_entries_max=5)
    cluster.isolate(leader)
    proposed = 0
    while cluster.core(leader).accepting:
        cluster.propose(leader, b"x")
        proposed += 1
    assert proposed == 5
    assert len([letter for letter in cluster.letters if letter.message.entries]) == 2 * 3
    cluster.heal()
    cluster.settle()
    assert cluster.core(leader).accepting
    assert cluster.core(leader).state.committed == 6


def test_window_when_it_is_counted_in_bytes() -> None:
    cluster, leader = settled(inflight_bytes_max=1_000, uncommitted_bytes_max=2_000)
    cluster.isolate(leader)
    while cluster.core(leader).accepting:
        cluster.propose(leader, bytes(400))
    state = cluster.core(leader).state
    assert 2_000 <= state.log.bytes_after(state.committed) < 2_500
    sent = [letter for letter in cluster.letters if letter.message.entries]
    assert len(sent) == 2 * 3
    cluster.letters.clear()
    cluster.heal()
    cluster.run(300)
    assert cluster.core(leader).accepting, "nothing leaks where messages are lost"


def test_follower_when_it_comes_back_far_behind_catches_up_in_few_messages() -> None:
    cluster, _leader = settled()
    follower = cluster.followers()[0]
    cluster.isolate(follower)
    propose_all(cluster, [b"%d" % number for number in range(200)])
    cluster.heal()
    before = cluster.sent
    cluster.run(300)
    assert len(cluster.commands(follower)) == 200
    assert cluster.sent - before < 40


@pytest.mark.parametrize("seed", range(5))
def test_resends_when_messages_are_reordered_and_doubled_stay_few(seed: int) -> None:
    random = Random(seed)
    cluster, leader = settled(message_entries_max=1, inflight_messages_max=16)
    before = cluster.sent
    for number in range(150):
        cluster.propose(leader, b"%d" % number)
        for _ in range(4):
            if cluster.letters:
                position = random.randrange(min(12, len(cluster.letters)))
                letter = cluster.letters[position]
                del cluster.letters[position]
                cluster.deliver(letter)
                if random.random() < 0.2:
                    cluster.letters.append(letter)
    cluster.run(300)
    assert cluster.sent - before < 150 * 2 * 2 * 6
    assert all(len(cluster.commands(node)) == 150 for node in cluster.members)


def test_conflict_when_it_is_old_changes_nothing() -> None:
    cluster, leader = settled()
    propose_all(cluster, [b"a", b"b"])
    core = cluster.core(leader)
    follower = cluster.followers()[0]
    progress = core.replication.progress[NodeId(follower)]
    before = (progress.state, progress.matched, progress.next)
    for refused in (1, 3, 99):
        old = AppendRejected(
            term=1,
            incarnation=Incarnation(100 * follower),
            refused_seqno=refused,
            hint_view=0,
            hint_seqno=0,
            round=0,
            attempt=progress.attempt - 1,
        )
        cluster.deliver(Letter(NodeId(follower), NodeId(leader), old))
    current = AppendRejected(
        term=1,
        incarnation=Incarnation(100 * follower),
        refused_seqno=3,
        hint_view=0,
        hint_seqno=0,
        round=0,
        attempt=progress.attempt,
    )
    cluster.deliver(Letter(NodeId(follower), NodeId(leader), current))
    assert (progress.state, progress.matched, progress.next) == before


def test_acknowledgement_when_it_is_not_of_our_entry_does_not_count() -> None:
    cluster, leader = settled()
    cluster.isolate(leader)
    cluster.propose(leader, b"x")
    core = cluster.core(leader)
    for follower in cluster.followers():
        incarnation = Incarnation(100 * follower)
        for matched in ((2, 2), (1, 99), (7, 2)):
            forged = AppendResponse(
                term=1,
                incarnation=incarnation,
                matched_view=matched[0],
                matched_seqno=matched[1],
                round=0,
                reached=0,
            )
            core.step(Received(NodeId(follower), forged), cluster.now)
        core.step(
            Received(
                NodeId(follower),
                AppendResponse(
                    term=1, incarnation=Incarnation(5), matched_view=1, matched_seqno=2, round=0, reached=0
                ),
            ),
            cluster.now,
        )
        core.step(
            Received(
                NodeId(follower),
                AppendResponse(
                    term=0, incarnation=incarnation, matched_view=1, matched_seqno=2, round=0, reached=0
                ),
            ),
            cluster.now,
        )
    assert core.state.committed == 1


def test_commitment_when_only_older_terms_are_on_a_majority_waits() -> None:
    cluster, leader = settled()
    cluster.isolate(leader)
    cluster.propose(leader, b"old")
    cluster.heal()
    core = cluster.core(leader)
    core.roles.become_follower(5, None)
    core.state.outbox.take()
    core.state.enter(6, core.state.node)
    cluster.letters.clear()
    core.state.role, core.state.leader = Role.LEADER, core.state.node
    core.replication.begin()
    for progress in core.replication.progress.values():
        progress.acknowledge(2)
    core.replication.count()
    assert core.state.committed == 1, "entry 2 is on all disks, but of term 1"
    for progress in core.replication.progress.values():
        progress.acknowledge(3)
    core.replication.count()
    assert core.state.committed == 3


def deliver(cluster: Cluster, leader: int, follower: int, **fields: object) -> list[object]:
    """Deliver a message of the leader's with these fields, and return the answers."""
    state = cluster.core(follower).state
    values: dict[str, object] = {
        "term": state.term,
        "to": state.incarnation,
        "previous_view": 1,
        "previous_seqno": 1,
        "entries": [],
        "committed": 0,
        "round": 0,
        "attempt": 0,
    }
    cluster.letters.clear()
    message = AppendEntries(**{**values, **fields})  # type: ignore[arg-type]
    cluster.deliver(Letter(NodeId(leader), NodeId(follower), message))
    return [letter.message for letter in cluster.letters]


@pytest.mark.parametrize(
    "fields",
    [
        {"entries": [record(1, 3)]},
        {"entries": [record(1, 2), record(1, 4)]},
        {"entries": [record(2, 2)]},
        {"entries": [record(1, 2), record(0, 3)]},
        {"entries": [b"rubbish"]},
        {"entries": [encode_record(EntryRecord(1, 2, 7, b""))]},
        {"entries": [encode_record(EntryRecord(1, 2, 2, b"no configuration"))]},
        {"entries": [encode_record(EntryRecord(1, 2, 0, b"an empty one is empty"))]},
        {"previous_seqno": -1},
        {"previous_view": 2},
        {"previous_seqno": 0},
        {"committed": -1},
        {"round": -3},
        {"committed": 2**60},
        {"previous_seqno": 0, "previous_view": 0, "entries": [record(0, 1)]},
    ],
)
def test_entries_when_they_cannot_be_are_dropped_whole(fields: dict[str, object]) -> None:
    cluster, leader = settled()
    follower = cluster.followers()[0]
    state = cluster.core(follower).state
    before = (state.log.last, state.committed, state.term)
    dropped = sum(state.counters.values())
    assert deliver(cluster, leader, follower, **fields) == []
    assert (state.log.last, state.committed, state.term) == before
    assert sum(state.counters.values()) == dropped + 1


def test_suffix_when_an_old_message_arrives_late_stays() -> None:
    cluster, leader = settled()
    propose_all(cluster, [b"a", b"b", b"c"])
    follower = cluster.followers()[0]
    log = cluster.core(follower).state.log
    entries = log.records(2, entries_max=1, bytes_max=1_000)
    (answer,) = deliver(cluster, leader, follower, entries=entries)
    assert log.last_seqno == 4
    assert isinstance(answer, AppendResponse)
    assert answer.matched_seqno == 2, "not the last entry: the last that the message spoke of"


def test_commitment_when_the_leader_is_ahead_ends_with_what_the_message_covers() -> None:
    cluster, leader = settled()
    follower = cluster.followers()[0]
    cluster.isolate(leader)
    state = cluster.core(follower).state
    deliver_blocked = cluster.blocked
    cluster.heal()
    deliver(cluster, leader, follower, entries=[record(1, 2, b"a"), record(1, 3, b"b")])
    deliver(cluster, leader, follower, committed=1)
    assert state.committed == 1
    assert deliver_blocked is not cluster.blocked


def test_entries_against_what_is_committed_are_refused() -> None:
    cluster, leader = settled()
    propose_all(cluster, [b"a"])
    cluster.run(150)
    follower = cluster.followers()[0]
    state = cluster.core(follower).state
    assert state.committed == 2
    state.term = 2
    assert deliver(cluster, leader, follower, term=2, entries=[record(2, 2, b"other")]) == []
    assert state.counters["entries against what is committed"] == 1
    assert state.log.view_at(2) == 1


def test_reply_to_an_earlier_leader_tells_it_the_term() -> None:
    cluster, leader = settled()
    follower = cluster.followers()[0]
    cluster.core(follower).roles.become_follower(8, None)
    cluster.sync(follower)
    cluster.feed_message(
        leader,
        follower,
        AppendEntries(
            term=1,
            to=Incarnation(100 * follower),
            previous_view=0,
            previous_seqno=0,
            entries=[],
            committed=0,
            round=0,
            attempt=0,
        ),
    )
    cluster.settle()
    assert cluster.core(leader).state.term >= 8


def test_heartbeat_when_entries_were_lost_finds_out() -> None:
    cluster, leader = settled()
    follower = cluster.followers()[0]
    cluster.propose(leader, b"x")
    cluster.letters = type(cluster.letters)(letter for letter in cluster.letters if letter.to != follower)
    cluster.run(250)
    assert cluster.commands(follower) == [b"x"]


def test_connection_when_it_comes_back_is_used_at_once() -> None:
    cluster, leader = settled()
    follower = cluster.followers()[0]
    cluster.isolate(follower)
    propose_all(cluster, [b"x"])
    cluster.heal()
    cluster.connect(leader, follower, up=False)
    cluster.connect(leader, follower, up=True)
    cluster.settle()
    assert cluster.core(follower).state.log.last_seqno == 2

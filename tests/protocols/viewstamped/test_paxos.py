"""One instance of Paxos, acceptor and proposer, without a network."""

from viewstamp.core.ids import Incarnation, Instant, NodeId, View
from viewstamp.protocols.viewstamped.membership import Member, Membership, first_view_of
from viewstamp.protocols.viewstamped.messages import LOWEST, Ballot
from viewstamp.protocols.viewstamped.paxos import Acceptor, Proposal

FIVE = tuple(NodeId(node) for node in range(1, 6))


def ballot(number: int, node: int = 1) -> Ballot:
    return Ballot(number, NodeId(node))


def value(node: int) -> Membership:
    return first_view_of(Member(NodeId(node), Incarnation(node)))


def preparing() -> Proposal:
    proposer = Proposal()
    proposer.begin(View(2), ballot(5))
    return proposer


def test_acceptor_promises_only_what_is_higher_when_prepared_twice() -> None:
    acceptor = Acceptor(View(2))
    assert acceptor.prepare(ballot(3))
    assert not acceptor.prepare(ballot(2, 9))
    assert not acceptor.prepare(ballot(3))
    assert acceptor.prepare(ballot(3, 2))
    assert acceptor.promised == ballot(3, 2)


def test_acceptor_refuses_a_value_when_a_higher_ballot_was_promised() -> None:
    acceptor = Acceptor(View(2))
    acceptor.prepare(ballot(3))
    assert not acceptor.accept(ballot(2), value(1))
    assert acceptor.value is None


def test_acceptor_raises_its_promise_when_it_accepts_unprepared() -> None:
    acceptor = Acceptor(View(2))
    assert acceptor.accept(ballot(4), value(1))
    assert acceptor.promised == ballot(4)
    assert not acceptor.prepare(ballot(3))


def test_acceptor_takes_the_newer_value_when_it_had_accepted_before() -> None:
    acceptor = Acceptor(View(2))
    acceptor.accept(ballot(4), value(1))
    assert acceptor.accept(ballot(5), value(2))
    assert (acceptor.accepted, acceptor.value) == (ballot(5), value(2))
    assert not acceptor.accept(ballot(5), value(2))


def test_acceptor_forgets_the_instance_when_the_next_begins() -> None:
    acceptor = Acceptor(View(2))
    acceptor.accept(ballot(4), value(1))
    acceptor.begin(View(3))
    assert (acceptor.promised, acceptor.accepted, acceptor.value) == (LOWEST, None, None)


def test_proposer_waits_when_half_of_an_even_number_promised() -> None:
    proposer = preparing()
    four = FIVE[:4]
    for node in four[:2]:
        proposer.promised_by(node, None, None, synchronised=False)
        proposer.promised_by(node, None, None, synchronised=False)
    assert not proposer.may_propose(four)
    proposer.promised_by(four[2], None, None, synchronised=False)
    assert proposer.may_propose(four)


def test_proposer_does_not_count_strangers_when_they_promise() -> None:
    proposer = preparing()
    for node in (7, 8, 9):
        proposer.promised_by(NodeId(node), None, None, synchronised=False)
    assert not proposer.may_propose(FIVE)


def test_proposer_must_take_the_value_of_the_highest_ballot_when_several_were_accepted() -> None:
    proposer = preparing()
    proposer.promised_by(FIVE[0], ballot(2), value(2), synchronised=False)
    proposer.promised_by(FIVE[1], ballot(4), value(4), synchronised=False)
    proposer.promised_by(FIVE[2], ballot(3), value(3), synchronised=False)
    assert proposer.best == (ballot(4), value(4))


def test_proposer_knows_of_the_synchronisation_when_one_promise_says_so() -> None:
    proposer = preparing()
    proposer.promised_by(FIVE[0], None, None, synchronised=True)
    proposer.promised_by(FIVE[1], None, None, synchronised=False)
    assert proposer.synchronised


def test_proposer_has_chosen_when_a_majority_accepted() -> None:
    proposer = preparing()
    proposer.propose(value(1))
    proposer.accepted_by(FIVE[0])
    proposer.accepted_by(FIVE[1])
    assert not proposer.has_chosen(FIVE)
    proposer.accepted_by(FIVE[2])
    assert proposer.has_chosen(FIVE)


def test_proposer_forgets_its_run_when_it_stands_back() -> None:
    proposer = preparing()
    proposer.promised_by(FIVE[0], ballot(2), value(2), synchronised=True)
    proposer.saw(ballot(9, 2))
    proposer.stand_back(Instant(100))
    assert (proposer.phase, proposer.retry_at, proposer.best) == ("standing back", 100, None)
    assert proposer.seen_number == 9
    assert not proposer.promisers

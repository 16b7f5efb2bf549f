from viewstamp.core.ids import Incarnation, Instant, NodeId
from viewstamp.protocols.replication.messages import Member
from viewstamp.protocols.replication.rounds import CatchUpRounds

LIMIT_US = 300


class Learner:
    def __init__(self, incarnation: int) -> None:
        self.member: Member = (NodeId(4), Incarnation(incarnation))
        self.matched = 0


def learner(incarnation: int = 1) -> Learner:
    return Learner(incarnation)


def test_learner_when_it_catches_up_within_an_election_timeout_keeps_up() -> None:
    rounds, progress = CatchUpRounds(LIMIT_US), learner()
    assert not rounds.is_short(progress.member, progress.matched, 100, Instant(0)), (
        "the first call begins the first round"
    )
    progress.matched = 100
    assert rounds.is_short(progress.member, progress.matched, 120, Instant(299))


def test_learner_when_it_has_nearly_all_of_a_long_log_does_not_keep_up() -> None:
    rounds, progress = CatchUpRounds(LIMIT_US), learner()
    rounds.is_short(progress.member, progress.matched, 1_000_000, Instant(0))
    progress.matched = 999_999
    assert not rounds.is_short(progress.member, progress.matched, 1_000_000, Instant(250))
    progress.matched = 1_000_000
    assert not rounds.is_short(progress.member, progress.matched, 1_000_100, Instant(301)), (
        "the round was too long: another begins"
    )
    progress.matched = 1_000_100
    assert rounds.is_short(progress.member, progress.matched, 1_000_200, Instant(500))


def test_learner_when_it_kept_up_and_stops_is_not_kept_for_one_that_does() -> None:
    rounds, progress = CatchUpRounds(LIMIT_US), learner()
    rounds.is_short(progress.member, progress.matched, 0, Instant(0))
    assert rounds.is_short(progress.member, progress.matched, 50, Instant(100))
    assert rounds.is_short(progress.member, progress.matched, 60, Instant(200)), (
        "the round under way may still be short"
    )
    assert not rounds.is_short(progress.member, progress.matched, 60, Instant(401))


def test_learner_when_it_is_another_incarnation_begins_again() -> None:
    rounds = CatchUpRounds(LIMIT_US)
    rounds.is_short(learner().member, 0, 0, Instant(0))
    assert not rounds.is_short(learner(2).member, 0, 0, Instant(100))
    rounds.forget()
    assert not rounds.is_short(learner(2).member, 0, 0, Instant(200))

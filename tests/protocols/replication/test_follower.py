"""What of a leader's entries goes into the log, and how far two logs agree on disk."""

import pytest

from tests.mutants.lone import Lone, entry, records
from viewstamp.core.ids import Incarnation, PersistSeq, Seqno, View, Viewstamp
from viewstamp.protocols.raft.messages import AppendEntries
from viewstamp.protocols.replication.follower import is_sound, match_on_disk, store
from viewstamp.protocols.replication.log import Log


def append(
    previous: tuple[int, int], *, committed: int = 0, number: int = 0, attempt: int = 0
) -> AppendEntries:
    return AppendEntries(
        term=2,
        to=Incarnation(100),
        previous_view=previous[0],
        previous_seqno=previous[1],
        entries=[],
        committed=committed,
        round=number,
        attempt=attempt,
    )


def test_message_when_its_numbers_could_be_a_leaders_is_sound() -> None:
    assert is_sound(append((0, 0)), 1)
    assert is_sound(append((2, 5), committed=9, number=3, attempt=1), 2)


@pytest.mark.parametrize(
    "message",
    [
        append((3, 5)),
        append((0, 5)),
        append((2, 0)),
        append((2, 5), committed=-1),
        append((2, 5), number=-1),
        append((2, 5), attempt=1 << 60),
    ],
)
def test_message_when_its_numbers_could_be_nobodys_is_not_sound(message: AppendEntries) -> None:
    assert not is_sound(message, 2)


def test_store_when_some_entries_are_here_already_appends_the_rest() -> None:
    state, gone = Lone([1, 1]).state, list[int]()
    sent = [entry(1, 2), entry(1, 3)]
    assert store(state, sent, records(*sent), gone.append) == sent[1:]
    assert (state.log.last_seqno, gone) == (3, [])
    assert store(state, sent, records(*sent), gone.append) == ()


def test_store_when_a_suffix_conflicts_replaces_it_and_says_what_stays() -> None:
    node = Lone([1, 1, 1])
    state, gone = node.state, list[int]()
    sent = [entry(1, 1), entry(2, 2)]
    assert store(state, sent, records(*sent), gone.append) == sent[1:]
    assert (state.log.last, gone) == (Viewstamp(View(2), Seqno(2)), [1])


def test_store_when_it_contradicts_what_is_committed_changes_nothing() -> None:
    state, gone = Lone([1, 1]).state, list[int]()
    state.committed = 2
    assert store(state, [entry(2, 2)], records(entry(2, 2)), gone.append) is None
    assert (state.log.last, gone) == (Viewstamp(View(1), Seqno(2)), [])


def test_match_when_less_is_on_disk_or_agreed_is_the_lesser() -> None:
    log = Log()
    for seqno in (1, 2, 3):
        log.append(entry(1, seqno), b"", seqno)
    assert match_on_disk(log, 3) == (0, 0)
    log.persisted(PersistSeq(2))
    assert match_on_disk(log, 3) == (1, 2)
    assert match_on_disk(log, 1) == (1, 1)


def test_match_when_a_snapshot_took_the_place_of_what_is_not_durable_is_nothing() -> None:
    log = Log()
    log.reset(Viewstamp(View(1), Seqno(5)), 1)
    assert match_on_disk(log, 5) == (0, 0)
    log.persisted(PersistSeq(1))
    assert match_on_disk(log, 5) == (1, 5)

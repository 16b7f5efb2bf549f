"""How two logs are compared: by the last entry of each view."""

from random import Random

import pytest

from viewstamp.core.ids import ORIGIN, Seqno, View, Viewstamp
from viewstamp.protocols.replication.log import COMMAND, EntryRecord, Log, encode_record
from viewstamp.protocols.viewstamped.state_transfer import agreement, marks_of


def stamp(view: int, seqno: int) -> Viewstamp:
    return Viewstamp(View(view), Seqno(seqno))


def log_of(*views: int, base: Viewstamp = ORIGIN) -> Log:
    log = Log()
    log.reset(base, 0)
    for place, view in enumerate(views, start=base.seqno + 1):
        entry = EntryRecord(view, place, COMMAND, b"x")
        log.append(entry, encode_record(entry), place)
    return log


def test_marks_name_the_last_entry_of_each_view() -> None:
    log = log_of(1, 1, 3, 3, 4, base=stamp(1, 2))
    assert marks_of(log) == (stamp(1, 2), stamp(1, 4), stamp(3, 6), stamp(4, 7))
    assert marks_of(Log()) == (ORIGIN,)


@pytest.mark.parametrize(
    ("mine", "theirs", "agreed"),
    [
        ((1, 1, 2), (1, 1, 2), stamp(2, 3)),
        ((1, 1, 2), (1, 1, 1, 1), stamp(1, 2)),
        ((1, 1, 1, 1), (1, 1, 3), stamp(1, 2)),
        ((1, 1, 4, 4), (1, 1, 4, 4, 4), stamp(4, 4)),
        ((), (1, 2), ORIGIN),
        ((1, 2), (), ORIGIN),
        ((1, 2, 5), (1, 3, 4), stamp(1, 1)),
    ],
)
def test_agreement_is_the_last_common_entry(
    mine: tuple[int, ...], theirs: tuple[int, ...], agreed: Viewstamp
) -> None:
    assert agreement(log_of(*mine), marks_of(log_of(*theirs))) == agreed


def test_agreement_lies_before_the_base_when_entries_are_missing_here() -> None:
    mine = log_of(2, base=stamp(2, 9))
    assert agreement(mine, marks_of(log_of(1, 1, 2, 2))) == stamp(2, 4)
    assert agreement(mine, marks_of(log_of(1, 1))) is None


def test_agreement_is_right_when_logs_are_drawn_at_random() -> None:
    rng = Random(7)
    for _ in range(300):
        common = sorted(rng.choices(range(1, 5), k=rng.randrange(5)))
        mine = common + sorted(rng.choices(range(5, 8), k=rng.randrange(4)))
        theirs = common + sorted(rng.choices(range(8, 11), k=rng.randrange(4)))
        agreed = agreement(log_of(*mine), marks_of(log_of(*theirs)))
        assert agreed is not None
        assert agreed.seqno == len(common)

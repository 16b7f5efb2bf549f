"""The store against its definition, through thousands of random commands, snapshots and compactions."""

from random import Random

import pytest

from tests.services.store.model import Model, Store, covering, found, watched
from viewstamp.services.store import CoordinationStore, changes, history
from viewstamp.services.store.types import (
    Change,
    Compacted,
    CompactedRevision,
    Delete,
    Event,
    FutureRevision,
    Get,
    Put,
    StoreLimits,
    Txn,
    Watch,
)

KEYS = [b"a", b"a/", b"a/1", b"a/2", b"a/2/x", b"b", b"\xff", b"\xff\xff", b"c\0"]
RANGES = [
    (b"a", b""),
    (b"a/", b"a0"),
    (b"a", b"b"),
    (b"\0", b"\0"),
    (b"b", b"a"),
    (b"\xff", b"\0"),
    (b"a/2", b""),
]


class Small(CoordinationStore):
    """A store whose window holds some twenty steps."""

    limits = StoreLimits(history_bytes_max=20 * history.STEP_BYTES, history_ms_max=100)


@pytest.fixture(autouse=True)
def _small_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "LOOKED_AT_MAX", 3)
    monkeypatch.setattr(history, "TRIMMED_MAX", 4)


def command(rng: Random, store: Store, model: Model) -> None:
    """Run a random command on both."""
    now = model.state
    kind, key, value = rng.randrange(5), rng.choice(KEYS), rng.randbytes(rng.randrange(9))
    if kind <= 1:
        store.do("kv_put", Put(key, value))
        model.change(store.token(), [(key, value, 0)])
    elif kind == 2:
        first, end = rng.choice(RANGES)
        gone = sorted(filter(covering(first, end), now))
        assert store.do("kv_delete", Delete(first, end)).count == len(gone)
        model.change(store.token(), [(each, None, 0) for each in gone])
    elif kind == 3:
        chosen = rng.sample(KEYS, rng.randrange(1, 6))
        puts = [each for each in chosen if each not in now or rng.random() < 0.7]
        gone = [each for each in chosen if each not in puts]
        store.do("kv_txn", Txn([], [*(Put(each, value) for each in puts), *(Delete(each) for each in gone)]))
        model.change(
            store.token(), [*((each, value, 0) for each in puts), *((each, None, 0) for each in gone)]
        )
    else:
        if rng.random() < 0.1 and model.changes:
            store.do("kv_compact", rng.choice(model.changes).revision)
        return
    last = model.changes[-1:]
    wanted = [event.key for change in last if change.revision == store.token() for event in change.events]
    assert store.touched == wanted


def check(rng: Random, store: Store, model: Model) -> None:
    """Compare reads at all revisions that are kept, and watches from some of them."""
    compacted = store.machine._table.history.compacted
    first, end = rng.choice(RANGES)
    covers = covering(first, end)
    for revision in [0, *model.states]:
        get = Get(first, end, rng.choice([0, 1, 2]), revision)
        if 0 < revision < compacted:
            with pytest.raises(CompactedRevision):
                store.ask("kv_range", get)
            continue
        state = model.at(revision) if revision else model.state
        wanted = [state[key] for key in sorted(filter(covers, state))]
        assert found(store, get) == wanted, (revision, get)
        counted = store.ask("kv_range", Get(first, end, 0, revision, count_only=True))
        assert (counted.items, counted.count) == ([], len(wanted))
        after = revision or compacted
        told = watched(store, Watch(first, end, after, prev=True))
        assert told == model.told(covers, after) if after >= compacted else told == Compacted(compacted)


@pytest.mark.parametrize("kind", [CoordinationStore, Small])
@pytest.mark.parametrize("seed", range(4))
def test_reads_and_watches_are_those_of_the_definition(kind: type[CoordinationStore], seed: int) -> None:
    rng = Random(seed)
    store, model = Store(kind()), Model()
    forgot = 0
    for number in range(250):
        store.now += rng.randrange(20_000)
        command(rng, store, model)
        if number % 25 == 24:
            check(rng, store, model)
            snapshot = b"".join(store.machine.snapshot())
            store = store.restored() if rng.random() < 0.7 else store
            assert b"".join(store.machine.snapshot()) == snapshot
            check(rng, store, model)
        forgot = max(forgot, len(model.changes) - len(store.machine._table.history))
    table = store.machine._table
    assert {key: record.value for key, record in table.records.items()} == {
        key: item.value for key, item in model.state.items()
    }
    if kind is Small:
        assert table.history.size_bytes <= Small.limits.history_bytes_max
        assert forgot > 100
        assert len(table.history.steps) < 100, "what is forgotten is given back"
        assert sum(map(len, table.history._by_key.values())) < 100


def test_what_a_window_of_time_has_left_is_forgotten_by_the_next_commands() -> None:
    store = Store(Small())
    store.do("kv_put", Put(b"a", b"1"))
    at = store.token()
    store.now = 200_000
    store.do("kv_put", Put(b"b", b"1"))
    with pytest.raises(CompactedRevision, match="is compacted: the history begins after"):
        store.ask("kv_range", Get(b"a", revision=at - 1))
    assert store.ask("kv_changes", Watch(b"a", b"\0", at - 1)) == Compacted(at)
    (change,) = store.ask("kv_changes", Watch(b"a", b"\0", at)).changes
    assert change.revision == store.token()


def test_the_delete_at_the_compacted_revision_is_told_or_refused_and_never_left_out() -> None:
    store = Store()
    store.do("kv_put", Put(b"a", b"1"))
    store.do("kv_delete", Delete(b"a"))
    deleted = store.token()
    store.do("kv_compact", deleted)
    assert store.ask("kv_changes", Watch(b"a", after=deleted - 1)) == Compacted(deleted)
    assert watched(store, Watch(b"a", after=deleted)) == []


def test_a_question_about_the_future_is_told_nothing_earlier_and_no_progress() -> None:
    store = Store()
    store.do("kv_put", Put(b"a", b"1"))
    future = store.token(9)
    news = store.ask("kv_changes", Watch(b"a", after=future))
    assert (news.changes, news.revision) == ([], future)
    assert store.awaited == (b"a", b"a\0")
    store.do("kv_put", Put(b"a", b"2"))
    assert watched(store, Watch(b"a", after=future)) == []
    store.seqno = 20
    store.do("kv_put", Put(b"a", b"3"))
    (change,) = store.ask("kv_changes", Watch(b"a", after=future)).changes
    assert change.revision == store.token()
    with pytest.raises(FutureRevision):
        store.ask("kv_range", Get(b"a", revision=store.token() + 1))


def test_a_revision_too_large_for_one_answer_comes_in_fragments_that_say_so() -> None:
    store = Store()
    store.do("kv_txn", Txn([], [Put(b"k%d" % number, b"v") for number in range(8)]))
    at = store.token()
    first = store.ask("kv_changes", Watch(b"k", b"l"))
    assert [len(change.events) for change in first.changes] == [3]
    assert first.changes[0].more
    assert (first.revision, first.skip) == (0, 3)
    last = store.ask("kv_changes", Watch(b"k", b"l", 0, 6))
    assert last.changes == [Change(at, last.changes[0].events)]
    assert len(last.changes[0].events) == 2
    # The end of a revision is told, also where nothing of the range is in the rest of it.
    assert store.ask("kv_changes", Watch(b"k", b"k2", 0, 6)).changes == [Change(at, [])]
    assert watched(store, Watch(b"k7")) == [(at, Event(b"k7", store.ask("kv_range", Get(b"k7")).items[0]))]


def test_a_restored_life_makes_every_watch_list_again() -> None:
    store = Store()
    store.do("kv_put", Put(b"a", b"1"))
    before = store.token()
    lost = store.token(50)
    store.seqno = 1_000
    store.do("life_begins")
    for after in (before, lost):
        assert isinstance(store.ask("kv_changes", Watch(b"a", after=after)), Compacted)
    assert store.ask("kv_revision") == store.token()
    assert [item.value for item in found(store, Get(b"a"))] == [b"1"]
    assert watched(store, Watch(b"a", after=store.token())) == []

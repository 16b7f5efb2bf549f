"""The lead among processes that share a store."""

from collections.abc import Iterator

import pytest

from tests.adapters.conftest import Stock
from viewstamp.adapters.leading import Leadership
from viewstamp.clients.conditions import put
from viewstamp.clients.coordination_blocking import BlockingCoordination, BlockingKeys, BlockingLease


@pytest.fixture
def other(stock: Stock) -> Iterator[BlockingCoordination]:
    with BlockingCoordination(stock.config, timeout_s=30) as client:
        yield client


def test_one_leads_and_the_other_follows_when_it_resigns(
    store: BlockingCoordination, other: BlockingCoordination
) -> None:
    first, second = Leadership(store, "l", value=b"a", ttl_s=60), Leadership(other, "l", ttl_s=60)
    assert first.leads()
    assert first.leads()
    assert not second.leads()
    item = store.kv.get("l")
    assert item is not None
    assert (item.value, item.create) == (b"a", first.term)
    first.resign()
    first.resign()
    assert not first.is_certain
    assert second.leads()
    assert second.term > item.create
    second.resign()


def test_one_leads_when_two_have_seen_that_nobody_does(
    store: BlockingCoordination, other: BlockingCoordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Leadership(store, "l", ttl_s=60), Leadership(other, "l", ttl_s=60)
    assert first.leads()
    monkeypatch.setattr(BlockingKeys, "get", lambda *_: None)
    assert not second.leads()
    assert first.is_certain
    first.resign()


def test_a_leader_that_was_deposed_writes_nothing(
    store: BlockingCoordination, other: BlockingCoordination
) -> None:
    first, second = Leadership(store, "l", ttl_s=60), Leadership(other, "l", ttl_s=60)
    assert first.leads()
    late = first.in_term
    other.revoke(_lease_of(other))
    assert second.leads()
    assert not store.kv.txn([late], [put("written", b"late")]).succeeded
    assert other.kv.txn([second.in_term], [put("written", b"now")]).succeeded
    second.resign()


def test_the_lead_is_asked_for_again_when_it_is_lost(
    store: BlockingCoordination, monkeypatch: pytest.MonkeyPatch
) -> None:
    leadership = Leadership(store, "l", ttl_s=60)
    assert leadership.leads()
    term = leadership.term
    store.revoke(_lease_of(store))
    with monkeypatch.context() as patch:
        patch.setattr(BlockingLease, "standing", "lost")  # as it is when it was to be kept alive
        assert leadership.leads()
    assert leadership.is_certain
    assert leadership.term > term
    leadership.resign()


def _lease_of(store: BlockingCoordination) -> int:
    item = store.kv.get("l")
    assert item is not None
    return item.lease

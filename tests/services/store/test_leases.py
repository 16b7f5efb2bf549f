"""Leases: ended by the log's time, with all their keys under one revision."""

import pytest

from tests.services.store.model import Store
from viewstamp.services.store import leases
from viewstamp.services.store.types import (
    LEASE_MAX,
    Delete,
    Get,
    InvalidLease,
    LeaseExists,
    LeaseNotFound,
    LeaseState,
    Put,
    TooMany,
    Watch,
)

SECOND = 1_000_000


def keys_of(store: Store) -> list[bytes]:
    """Return the keys that exist."""
    return [item.key for item in store.ask("kv_range", Get(b"\0", b"\0")).items]


def test_a_lease_ends_with_all_its_keys_under_one_revision_by_the_entry_that_is_due() -> None:
    store = Store()
    lease = store.do("lease_grant", 2_000)
    for key in (b"b", b"a", b"c"):
        store.do("kv_put", Put(key, b"v", lease))
    store.do("kv_put", Put(b"other"))
    store.do("kv_put", Put(b"c", b"without it"))
    assert store.machine.next_alarm() == 2 * SECOND
    store.now = 2 * SECOND - 1
    assert not store.ring()
    store.now = 2 * SECOND
    after = store.token()
    assert store.ring()
    assert not store.ring()
    assert keys_of(store) == [b"c", b"other"]
    (change,) = store.ask("kv_changes", Watch(b"\0", b"\0", after)).changes
    assert [event.key for event in change.events] == [b"a", b"b"]
    assert change.revision == store.token()
    with pytest.raises(LeaseNotFound):
        store.do("lease_keep_alive", lease)


def test_a_lease_that_is_kept_alive_ends_later_and_no_alarm_rings_before() -> None:
    store = Store()
    first, second = store.do("lease_grant", 2_000), store.do("lease_grant", 3_000)
    store.now = SECOND
    assert store.do("lease_keep_alive", first) == 2_000
    assert store.machine.next_alarm() == 3 * SECOND
    assert store.do("lease_time_to_live", second) == LeaseState(second, 3_000, 2_000)
    copy = store.restored()
    for each in (store, copy):
        each.now = 3 * SECOND
        # Both are due: the one with the lower number goes first, on every replica.
        assert each.ring()
        assert each.do("lease_time_to_live", second).left_ms == 0
        assert each.ring()
        assert each.machine.next_alarm() is None


def test_revoking_deletes_and_a_deleted_key_leaves_its_lease() -> None:
    store = Store()
    lease = store.do("lease_grant", 2_000, 77)
    assert lease == 77
    store.do("kv_put", Put(b"a", b"", lease))
    store.do("kv_put", Put(b"b", b"", lease))
    store.do("kv_delete", Delete(b"a"))
    assert store.do("lease_time_to_live", lease, True).keys == [b"b"]
    store.do("kv_put", Put(b"a"))
    assert store.do("lease_revoke", lease) == store.token()
    assert keys_of(store) == [b"a"]
    assert store.machine.next_alarm() is None
    empty = store.do("lease_grant", 2_000)
    assert store.do("lease_revoke", empty) < store.token(), "nothing has changed"


def test_a_lease_serves_its_principal_alone() -> None:
    store = Store()
    lease = store.do("lease_grant", 2_000, principal="client/a")
    for method, *args in (
        ("lease_keep_alive", lease),
        ("lease_revoke", lease),
        ("lease_time_to_live", lease),
        ("kv_put", Put(b"k", b"", lease)),
    ):
        with pytest.raises(LeaseNotFound):
            store.do(method, *args, principal="client/b")
        store.restored().do(method, *args, principal="client/a")
    assert store.ask("lease_leases", principal="client/a") == [lease]
    assert store.ask("lease_leases", principal="client/b") == []


def test_numbers_times_and_counts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    for ttl_ms, number in ((99, 0), (1 << 60, 0), (1_000, -1), (1_000, LEASE_MAX + 1)):
        with pytest.raises(InvalidLease):
            store.do("lease_grant", ttl_ms, number)
    lease = store.do("lease_grant", 1_000, 5)
    with pytest.raises(LeaseExists):
        store.do("lease_grant", 1_000, 5)
    monkeypatch.setattr(leases, "KEYS_PER_COMMAND_MAX", 2)
    for key in (b"a", b"b"):
        store.do("kv_put", Put(key, b"", lease))
    with pytest.raises(TooMany):
        store.do("kv_put", Put(b"c", b"", lease))
    monkeypatch.setattr(type(store.machine), "limits", type(store.machine.limits)(leases_max=1))
    with pytest.raises(TooMany):
        store.do("lease_grant", 1_000)


def test_alarms_of_leases_that_were_revoked_are_given_back() -> None:
    store = Store()
    for _ in range(500):
        store.do("lease_revoke", store.do("lease_grant", 1 << 30))
    assert len(store.machine._table.leases._alarms) < 200

"""One lease for all that a coordinator holds, and errors that say whether something was done."""

import pytest
from tooz import ToozError
from tooz.coordination import GroupNotCreated, OperationTimedOut, ToozConnectionError

from viewstamp.adapters.tooz.session import Session, translated
from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.core.errors import NotExecuted, OutcomeUnknown, PermissionDenied
from viewstamp.services.store.types import LeaseNotFound


@pytest.mark.parametrize(
    ("error", "wanted", "text"),
    [
        (NotExecuted("x"), ToozConnectionError, "nothing was done: x"),
        (OutcomeUnknown("x"), OperationTimedOut, "it may have been done: x"),
        (PermissionDenied("x"), ToozError, "PermissionDenied: x"),
        (LeaseNotFound("x"), ToozError, "LeaseNotFound: x"),
        (GroupNotCreated("x"), GroupNotCreated, "Group x does not exist"),
    ],
)
def test_errors_are_those_of_tooz(error: Exception, wanted: type[Exception], text: str) -> None:
    with pytest.raises(wanted) as caught, translated():
        raise error
    assert (type(caught.value), str(caught.value)) == (wanted, text)


def test_a_lease_that_has_ended_is_replaced_by_the_next_operation(store: BlockingCoordination) -> None:
    session = Session(store, 60)
    first = session.lease
    session.beat()
    assert session.lease == first
    store.revoke(first)
    lease, revision = session.attached(lambda lease: store.kv.put("a", b"", lease=lease))
    assert lease == session.lease != first
    found = store.kv.get("a")
    assert found is not None
    assert (found.lease, found.mod) == (lease, revision)


def test_a_heartbeat_grants_another_lease_where_the_old_one_has_ended(store: BlockingCoordination) -> None:
    session = Session(store, 60)
    first = session.lease
    store.revoke(first)
    session.beat()
    assert session.lease != first
    assert store.time_to_live(session.lease).ttl_ms == 60_000


def test_the_end_lets_go_of_everything_at_once(store: BlockingCoordination) -> None:
    session = Session(store, 60)
    session.attached(lambda lease: store.kv.put("a", b"", lease=lease))
    watching = store.kv.get("a")
    assert watching is not None
    lease = session.lease
    store.revoke(lease)
    assert store.kv.get("a") is None
    session.end()
    assert session.ended.is_set()

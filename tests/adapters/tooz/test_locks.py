"""Locks of tooz: one holder or many that share, no hold that nobody has, tokens that grow."""

import threading

import pytest
from tooz.coordination import OperationTimedOut, ToozConnectionError, ToozError

from tests.adapters.tooz.conftest import Make
from viewstamp.adapters.tooz.driver import ViewstampDriver
from viewstamp.clients.coordination_blocking import BlockingCoordination, BlockingKeys
from viewstamp.core.errors import NotExecuted, OutcomeUnknown
from viewstamp.services.store.types import TxnDone


def lease_of(driver: ViewstampDriver) -> int:
    assert driver._session is not None
    return driver._session.lease


def test_one_holds_it_and_each_hold_has_a_larger_token(made: Make) -> None:
    one, two = made(b"one").get_lock(b"l"), made(b"two").get_lock(b"l")
    assert one.token == 0
    assert one.acquire()
    first = one.token
    assert (one.acquired, one.is_still_owner()) == (True, True)
    assert not two.acquire(blocking=False)
    assert not two.acquire(blocking=0.01)  # type: ignore[arg-type]  # tooz takes a number as a timeout
    assert one.release()
    assert two.acquire()
    assert two.token > first > 0
    assert (one.acquired, one.is_still_owner(), one.release()) == (False, False, False)


def test_those_who_share_keep_out_the_one_who_does_not(made: Make) -> None:
    one, two, three = (made(name).get_lock(b"l") for name in (b"one", b"two", b"three"))
    assert one.acquire(shared=True)
    assert two.acquire(shared=True)
    assert not three.acquire(blocking=False)
    assert one.release()
    assert not three.acquire(blocking=False)
    assert two.release()
    assert three.acquire(blocking=False)
    assert not one.acquire(blocking=False, shared=True)


def test_locks_whose_names_begin_alike_are_different_ones(made: Make) -> None:
    driver = made()
    outer, inner, odd = (driver.get_lock(name) for name in (b"a", b"a/sole", b"\xff/ "))
    assert outer.acquire(blocking=False)
    assert inner.acquire(blocking=False)
    assert odd.acquire(blocking=False)
    assert outer.release()
    assert inner.is_still_owner()


def test_who_lost_its_lease_does_not_hold_it(made: Make, store: BlockingCoordination) -> None:
    driver = made(b"one")
    lock = driver.get_lock(b"l")
    assert lock.acquire()
    store.revoke(lease_of(driver))
    assert not lock.is_still_owner()
    driver.heartbeat()
    assert (lock.acquired, lock.token) == (False, 0)
    assert made(b"two").get_lock(b"l").acquire(blocking=False)


def test_a_broken_lock_is_not_broken_again_by_its_old_holder(made: Make) -> None:
    one, two = made(b"one").get_lock(b"l"), made(b"two").get_lock(b"l")
    assert one.acquire()
    assert two.break_()
    assert not two.break_()
    assert two.acquire(blocking=False)
    assert not one.release()
    assert two.is_still_owner()


class Unknown:
    """Transactions that are executed, and whose answers are lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: type[Exception], *, executes: bool) -> None:
        real = BlockingKeys.txn

        def txn(keys: BlockingKeys, *arguments: object) -> TxnDone:
            if not self.lost:
                return real(keys, *arguments)  # type: ignore[arg-type]
            self.lost -= 1
            if executes:
                real(keys, *arguments)  # type: ignore[arg-type]
            raise error("the answer was lost")

        self.lost = 0
        monkeypatch.setattr(BlockingKeys, "txn", txn)


def test_a_hold_that_nobody_is_sure_of_is_let_go_with_the_next_heartbeat(
    made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, other = made(b"one"), made(b"two").get_lock(b"l")
    lock = driver.get_lock(b"l")
    unknown = Unknown(monkeypatch, OutcomeUnknown, executes=True)
    unknown.lost = 1
    with pytest.raises(OperationTimedOut, match="it may have been done"):
        lock.acquire()
    assert not lock.acquired
    assert not other.acquire(blocking=False)
    driver.heartbeat()
    assert other.acquire(blocking=False)
    driver.heartbeat()
    assert other.is_still_owner(), "it was deleted by a heartbeat of another"


def test_the_next_attempt_lets_go_of_it_as_well(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = made(b"one").get_lock(b"l")
    unknown = Unknown(monkeypatch, OutcomeUnknown, executes=True)
    unknown.lost = 1
    with pytest.raises(OperationTimedOut):
        lock.acquire()
    assert lock.acquire(blocking=False)
    unknown.lost = 1
    with pytest.raises(OperationTimedOut):
        lock.release()
    assert lock.acquire(blocking=False), "the release that was not certain is done again"


def test_a_release_that_was_not_executed_leaves_it_held(made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = made(b"one").get_lock(b"l")
    assert lock.acquire()
    unknown = Unknown(monkeypatch, NotExecuted, executes=False)
    unknown.lost = 1
    with pytest.raises(ToozConnectionError, match="nothing was done"):
        lock.release()
    assert lock.acquired
    assert lock.release()


def test_the_end_of_a_coordinator_ends_its_waiting(made: Make) -> None:
    held = made(b"one").get_lock(b"l")
    assert held.acquire()
    driver = made(b"two")
    waiting = driver.get_lock(b"l")
    caught: list[Exception] = []

    def wait() -> None:
        try:
            waiting.acquire()
        except ToozError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    driver.stop()
    thread.join(30)
    assert caught

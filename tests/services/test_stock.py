"""The machine of the stock server: two services, one log, one snapshot, one set of sessions."""

from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import running_at
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.locks import LockService
from viewstamp.services.stock import RECIPES, StockService
from viewstamp.services.store import CoordinationStore


def test_the_store_keeps_its_names_and_the_locks_stand_beside_it() -> None:
    methods = set(MachineDefinition.of(StockService).methods)
    store = set(MachineDefinition.of(KeyValueStore).methods) | set(
        MachineDefinition.of(CoordinationStore).methods
    )
    locks = {f"locks.{name}" for name in MachineDefinition.of(LockService).methods}
    others = {
        f"{part}.{name}"
        for part, service in RECIPES.items()
        for name in MachineDefinition.of(service).methods
    }
    assert methods == store | locks | others


def test_a_snapshot_holds_both_and_the_end_of_a_session_reaches_the_locks() -> None:
    stock = StockService()
    store, locks = vars(stock)["machines"][""], vars(stock)["machines"]["locks"]
    with running_at(stock, client=1, session=2):
        store.set("k", b"v")
        assert locks.acquire("a", 1).state == "granted"
    again = StockService()
    again.restore(b"".join(stock.snapshot()))  # type: ignore[arg-type]
    machines = vars(again)["machines"]
    assert machines[""].get("k") == (b"v", 1)
    assert len(machines["locks"]) == 1
    assert len(list(again.pending_notifications_for({1}))) == 1
    with running_at(again):
        again.session_ended(1)
    assert len(machines["locks"]) == 0

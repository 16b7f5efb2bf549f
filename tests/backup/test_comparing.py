"""New code over an old log: twelve planted changes, each named at the first entry at which it shows."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.backup.shops import LIMITS, Shop, SoldOut, executed, shop_log, stream_of
from viewstamp.backup import comparing
from viewstamp.backup.comparing import Replay, Report
from viewstamp.backup.execution import Execution, NotReproduced
from viewstamp.core.errors import ConfigurationError
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.stream.decoder import read_records
from viewstamp.stream.records import LogEntry

LOG = shop_log(200)


def changed(name: str, **methods: Callable[..., Any]) -> type[StateMachine]:
    """Return a class called Shop with other methods."""
    for method, function in methods.items():
        function.__name__ = method
    marked = {method: command(function) for method, function in methods.items()}
    return type("Shop", (Shop,), {"__module__": __name__, "__doc__": name, **marked})


def result_is_another(self: Shop, item: str, amount: int) -> int:
    self.stock[item] = self.stock.get(item, 0) + amount
    return self.stock[item] + (1 if self.stock[item] > 4 else 0)


def raises_for_two(self: Shop, item: str, amount: int = 1) -> int:
    if amount == 2:
        raise SoldOut(item)
    return Shop.buy.function(self, item, amount)


def raises_another(self: Shop, item: str, amount: int = 1) -> int:
    try:
        return Shop.buy.function(self, item, amount)
    except SoldOut as error:
        raise KeyError(item) from error


def sells_what_is_not_there(self: Shop, item: str, amount: int = 1) -> int:
    self.stock.setdefault(item, 0)
    self.stock[item] -= amount
    self.orders.append((item, amount))
    self.sold += amount
    self.last = item
    return len(self.orders)


def counts_orders(self: Shop, item: str, amount: int = 1) -> int:
    result = Shop.buy.function(self, item, amount)
    self.sold += 1 - amount
    return result


def forgets_the_last(self: Shop, item: str, amount: int = 1) -> int:
    before = self.last
    result = Shop.buy.function(self, item, amount)
    self.last = before
    return result


def notes_in_capitals(self: Shop, text: str) -> None:
    self.last = text.upper()


def notes_after_fifty(self: Shop, text: str) -> None:
    self.last = text + "!" if len(self.orders) > 50 else text


def draws_less(self: Shop) -> float:
    return self.context.random.random() / 2


def leaves_no_empty_item(self: Shop, item: str, amount: int = 1) -> int:
    result = Shop.buy.function(self, item, amount)
    if not self.stock[item]:
        del self.stock[item]
    return result


def orders_other_way_round(self: Shop, item: str, amount: int = 1) -> int:
    result = Shop.buy.function(self, item, amount)
    self.orders.insert(0, self.orders.pop())
    return result


def fills_one_more(self: Shop, item: str, amount: int) -> int:
    self.stock[item] = self.stock.get(item, 0) + amount + (1 if amount == 3 else 0)
    return self.stock[item]


def told_twice(self: Shop, text: str) -> None:
    self.last = text
    self.context.notify(5, text)


CHANGES: dict[str, dict[str, Callable[..., Any]]] = {
    "another result from a value on": {"fill": result_is_another},
    "an exception where there was none": {"buy": raises_for_two},
    "another exception": {"buy": raises_another},
    "no exception where there was one": {"buy": sells_what_is_not_there},
    "only an attribute: a count": {"buy": counts_orders},
    "only an attribute: not assigned": {"buy": forgets_the_last},
    "only an attribute, in a command without a result": {"note": notes_in_capitals},
    "only an attribute, late in the log": {"note": notes_after_fifty},
    "another number out of the context": {"draw": draws_less},
    "a key is gone": {"buy": leaves_no_empty_item},
    "another order": {"buy": orders_other_way_round},
    "result and state": {"fill": fills_one_more},
}


def replayed(
    machine: type[StateMachine], *, against: type[StateMachine] | None = Shop, **options: Any
) -> Report:
    executions = [Execution(machine, LIMITS)]
    if against is not None:
        executions.append(Execution(against, LIMITS))
    return Replay(*executions, **options).run(read_records([stream_of(LOG)]))


def first_by_hand(machine: type[StateMachine]) -> int:
    """Return the number of the first entry after which anything differs, compared after each entry."""
    old, new = Execution(Shop, LIMITS), Execution(machine, LIMITS)
    for number, entry in enumerate(LOG, 1):
        results = [each.execute(entry, results=True) for each in (old, new)]
        if results[0] != results[1] or old.saved().body != new.saved().body:
            return number
    raise AssertionError("nothing differs")


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("every", [None, 1])
def test_planted_change_is_named_at_its_first_entry(name: str, every: int | None) -> None:
    machine = changed(name, **CHANGES[name])
    report = replayed(machine, compared_every=every)
    assert report.first is not None
    assert report.first.index == first_by_hand(machine)
    (method,) = CHANGES[name]
    assert report.first.method == method
    assert report.first.viewstamp == LOG[report.first.index - 1].viewstamp
    assert report.entries == len(LOG)


@pytest.mark.parametrize("every", [7, 64, 10_000])
@pytest.mark.parametrize("limit", [0, 64 << 20])
def test_state_is_searched_when_it_is_compared_rarely(
    every: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "SEARCHED_BYTES", limit)
    machine = changed("", buy=counts_orders)
    report = replayed(machine, compared_every=every)
    assert report.first is not None
    assert (report.first.method, report.first.index) == ("buy", first_by_hand(machine))
    assert report.entries == len(LOG)


@pytest.mark.parametrize("name", CHANGES)
def test_results_are_compared_with_the_stream_when_there_is_no_old_class(name: str) -> None:
    machine = changed(name, **CHANGES[name])
    old, new = Execution(Shop, LIMITS), Execution(machine, LIMITS)
    first = next(
        (
            number
            for number, entry in enumerate(LOG, 1)
            if [old.execute(entry), new.execute(entry), old.state.chain.digest][2] != new.state.chain.digest
        ),
        None,
    )
    report = replayed(machine, against=None)
    assert (None if report.first is None else report.first.index) == first


def test_difference_tells_call_and_both_results() -> None:
    report = replayed(changed("", **CHANGES["an exception where there was none"]), until_first=True)
    text = str(report.first)
    assert "buy('" in text
    assert "raised SoldOut: " in text
    assert "was: " in text
    assert "the attribute stock was " in text
    assert report.entries < len(LOG)


def test_same_class_differs_nowhere() -> None:
    for against in (None, Shop):
        report = replayed(changed("same"), against=against)
        assert report.first is None
        assert (report.entries, report.commands) == (len(LOG), len(LOG) - 1)
        assert "no difference in 201 entries with 200 commands" in str(report)


def test_allowed_method_may_differ_and_others_may_not() -> None:
    drawing = changed("", **CHANGES["another number out of the context"])
    report = replayed(drawing, allow=["draw"])
    assert report.first is None
    assert report.allowed > 0
    assert replayed(drawing, against=None, allow=["draw"]).first is None
    noting = changed("", **CHANGES["only an attribute, in a command without a result"])
    assert replayed(noting, allow=["note"]).first is None
    both = changed("", **CHANGES["another number out of the context"], **CHANGES["another exception"])
    report = replayed(both, allow=["draw"])
    assert report.first is not None
    assert report.first.method == "buy"


def test_allowed_method_when_neither_class_has_it_is_refused() -> None:
    for against in (None, Shop):
        with pytest.raises(ConfigurationError, match="'drwa': there is no such command"):
            replayed(Shop, against=against, allow=["draw", "drwa"])


def test_report_when_nothing_was_executed_does_not_say_that_nothing_differs() -> None:
    report = Replay(Execution(Shop, LIMITS)).run(read_records([stream_of([], executed(LOG[:9]))]))
    assert report.lines() == ["nothing was executed: there are no entries"]


def test_text_of_an_exception_may_differ() -> None:
    def buy(self: Shop, item: str, amount: int = 1) -> int:
        try:
            return Shop.buy.function(self, item, amount)
        except SoldOut as error:
            raise SoldOut(f"no {item} is left") from error

    assert replayed(changed("", buy=buy)).first is None


def test_replay_goes_on_from_a_backup() -> None:
    base = executed(LOG[:100])
    stream = stream_of(LOG, base)
    new, old = Execution(Shop, LIMITS), Execution(Shop, LIMITS)
    report = Replay(new, old).run(read_records([stream]))
    assert (report.first, report.entries) == (None, 101)
    assert new.state.chain.digest == LOG[-1].digest


def test_log_without_its_beginning_is_refused() -> None:
    later = stream_of(LOG, executed(LOG[:100]))
    chopped = [record for record in read_records([later]) if isinstance(record, LogEntry)]
    execution = Execution(Shop, LIMITS)
    with pytest.raises(NotReproduced, match="does not follow"):
        execution.execute(chopped[0])


def test_stream_of_another_class_is_refused() -> None:
    class Store(Shop):
        pass

    stream = stream_of(LOG, executed(LOG[:10]))
    with pytest.raises(NotReproduced, match="backup of the class Shop, not of Store"):
        Replay(Execution(Store, LIMITS)).run(read_records([stream]))

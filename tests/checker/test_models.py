from typing import Any

import msgspec
import pytest

from viewstamp.checker.history import HistoryError, Operation, OutcomeKind, RecordedContext, freeze
from viewstamp.checker.linearizable import check
from viewstamp.checker.machine_model import MachineModel
from viewstamp.checker.models import CounterModel, LockModel, Model
from viewstamp.checker.register_model import Register
from viewstamp.checker.store_model import NEW, VersionedStore
from viewstamp.machine.state_machine import StateMachine, command, query, running_at

Call = tuple[str, str | None, tuple[Any, ...], OutcomeKind, Any]


def judge(model: Model, *calls: Call) -> str:
    """Return the verdict on calls made one after the other."""
    history = [
        Operation(
            1, 10 * place, None if outcome == "unknown" else 10 * place + 5, op, key, args, outcome, result
        )
        for place, (op, key, args, outcome, result) in enumerate(calls)
    ]
    return check(history, model).outcome


CREATE: Call = ("put", "x", ("a", 0), "ok", 1)
LOST: Call = ("set", "x", ("c",), "unknown", None)
DELETE: Call = ("delete", "x", (), "ok", True)


@pytest.mark.parametrize(
    ("verdict", "calls"),
    [
        ("ok", [("get", "x", (), "raised", "NoKey"), CREATE, ("get", "x", (), "ok", ("a", 1))]),
        ("ok", [("put", "x", ("a", 3), "raised", "NoKey")]),
        ("ok", [CREATE, ("put", "x", ("b", 0), "raised", "VersionMismatch")]),
        ("ok", [CREATE, ("put", "x", ("b", 1), "raised", "Maybe"), ("get", "x", (), "ok", ("b", 2))]),
        ("ok", [CREATE, ("put", "x", ("b", 7), "raised", "Maybe"), ("get", "x", (), "ok", ("a", 1))]),
        ("ok", [CREATE, ("put", "x", ("b", 1), "ok", None), ("get", "x", (), "ok", ("b", 2))]),
        ("ok", [CREATE, ("set", "x", ("b",), "ok", 2), DELETE, ("delete", "x", (), "ok", False)]),
        ("ok", [CREATE, DELETE, ("put", "x", ("c", 0), "ok", 2)]),
        ("ok", [CREATE, DELETE, ("put", "x", ("c", 0), "ok", 9), ("set", "x", ("d",), "ok", 10)]),
        ("ok", [CREATE, ("delete", "x", (1,), "ok", True), ("delete", "x", (1,), "ok", False)]),
        (
            "ok",
            [CREATE, ("delete", "x", (4,), "raised", "VersionMismatch"), ("get", "x", (), "ok", ("a", 1))],
        ),
        ("ok", [("put", "", ("a", 0), "raised", "InvalidKey")]),
        ("ok", [CREATE, DELETE, LOST, ("get", "x", (), "ok", ("c", 7)), ("put", "x", ("d", 7), "ok", 8)]),
        (
            "violation",
            [CREATE, DELETE, LOST, ("get", "x", (), "ok", ("c", 7)), ("get", "x", (), "ok", ("c", 8))],
        ),
        ("violation", [CREATE, ("delete", "x", (4,), "ok", True)]),
        ("violation", [("set", "x", ("c",), "ok", 3)]),
        ("violation", [CREATE, ("get", "x", (), "ok", ("a",))]),
        ("violation", [CREATE, ("get", "x", (), "ok", ("a", 2))]),
        ("violation", [CREATE, ("get", "x", (), "raised", "NoKey")]),
        ("violation", [("put", "x", ("a", 3), "raised", "VersionMismatch")]),
        ("violation", [CREATE, ("put", "x", ("b", 1), "raised", "VersionMismatch")]),
        ("violation", [CREATE, ("put", "x", ("b", 1), "raised", "Maybe"), ("get", "x", (), "ok", ("a", 1))]),
        ("violation", [CREATE, ("put", "x", ("b", 0), "raised", "NoKey")]),
        ("violation", [CREATE, DELETE, ("put", "x", ("c", 0), "ok", 1)]),
        ("violation", [CREATE, DELETE, ("get", "x", (), "ok", ("a", 1))]),
        ("violation", [CREATE, ("set", "x", ("b",), "raised", "Maybe")]),
        ("ok", [CREATE, ("range", None, ("", "", 9), "ok", ((("x", "a", 1),), False)), DELETE]),
        (
            "ok",
            [
                CREATE,
                ("set", "z", ("b",), "ok", 1),
                ("range", None, ("", "", 1), "ok", ((("x", "a", 1),), True)),
            ],
        ),
        ("ok", [CREATE, DELETE, ("range", None, (), "ok", ((), False))]),
        ("ok", [CREATE, ("range", None, ("", "x"), "ok", ((), False))]),
        ("violation", [CREATE, ("range", None, (), "ok", ((), False))]),
        ("violation", [CREATE, ("range", None, (), "ok", ((("x", "a", 2),), False))]),
        ("violation", [CREATE, ("range", None, (), "ok", ((("x", "a", 1),), True))]),
    ],
)
def test_store_is_judged_by_values_versions_and_errors(verdict: str, calls: list[Any]) -> None:
    assert judge(VersionedStore(initial=NEW), *calls) == verdict


@pytest.mark.parametrize(
    ("verdict", "calls"),
    [
        (
            "ok",
            [
                ("acquire", "l", (), "ok", 5),
                ("acquire", "l", (), "ok", None),
                ("release", "l", (5,), "ok", True),
            ],
        ),
        (
            "ok",
            [
                ("acquire", "l", (), "ok", 5),
                ("release", "l", (5,), "ok", True),
                ("acquire", "l", (), "ok", 9),
            ],
        ),
        (
            "ok",
            [
                ("acquire", "l", (), "unknown", None),
                ("release", "l", (3,), "ok", True),
                ("acquire", "l", (), "ok", 4),
            ],
        ),
        ("ok", [("acquire", "l", (), "unknown", None), ("acquire", "l", (), "ok", None)]),
        ("violation", [("acquire", "l", (), "ok", 5), ("acquire", "l", (), "ok", 6)]),
        ("violation", [("acquire", "l", (), "ok", 5), ("release", "l", (4,), "ok", True)]),
        ("violation", [("acquire", "l", (), "ok", None)]),
        (
            "violation",
            [
                ("acquire", "l", (), "ok", 5),
                ("release", "l", (5,), "ok", True),
                ("acquire", "l", (), "ok", 5),
            ],
        ),
    ],
)
def test_lock_is_judged_by_holders_and_tokens(verdict: str, calls: list[Any]) -> None:
    assert judge(LockModel(), *calls) == verdict


def test_counter_and_register_are_judged_by_their_values() -> None:
    assert judge(CounterModel(), ("add", "c", (2,), "ok", 2), ("read", "c", (), "ok", 2)) == "ok"
    assert judge(CounterModel(), ("add", "c", (2,), "ok", 2), ("add", "c", (2,), "ok", 2)) == "violation"
    assert (
        judge(Register(), ("write", "r", (1,), "ok", None), ("cas", "r", (1, 2), "ok", False)) == "violation"
    )


@pytest.mark.parametrize(
    ("model", "operation", "complaint"),
    [
        (VersionedStore(), Operation(1, 0, 1, "put", "x", ("v",)), "takes 2 arguments"),
        (VersionedStore(), Operation(1, 0, 1, "put", "x", ("v", "1")), "an integer"),
        (VersionedStore(), Operation(1, 0, 1, "get"), "must have a `key`"),
        (VersionedStore(), Operation(1, 0, 1, "range", None, (1, 2)), "are strings"),
        (CounterModel(), Operation(1, 0, 1, "add", "c", ("1",)), "takes an integer"),
        (LockModel(), Operation(1, 0, 1, "steal", "l"), "no operation"),
    ],
)
def test_operation_is_refused_when_a_model_cannot_judge_it(
    model: Model, operation: Operation, complaint: str
) -> None:
    with pytest.raises(HistoryError, match=complaint):
        check([operation], model)


class Till(StateMachine):
    """A machine of a user's own."""

    money: dict[str, int] = {}  # noqa: RUF012  each machine gets a copy of its own

    @command
    def deposit(self, owner: str, amount: int) -> int:
        if amount < 0:
            raise ValueError("no negative amounts")
        self.money[owner] = self.money.get(owner, 0) + amount
        return self.money[owner]

    @query
    def balance(self, owner: str) -> int:
        return self.money.get(owner, 0)

    def secret(self) -> int:
        return 1


@pytest.mark.parametrize("independent_keys", [False, True])
def test_machine_of_a_user_is_its_own_model(independent_keys: bool) -> None:
    model = MachineModel(Till, independent_keys=independent_keys)
    deposit: Call = ("deposit", "ann", (5,), "ok", 5)
    assert judge(model, deposit, ("balance", "ann", (), "ok", 5), ("balance", "bob", (), "ok", 0)) == "ok"
    assert judge(model, deposit, ("balance", "ann", (), "ok", 0)) == "violation"
    assert judge(model, deposit, ("deposit", "ann", (-1,), "raised", "ValueError")) == "ok"
    assert judge(model, deposit, ("deposit", "ann", (5,), "ok", 5)) == "violation"
    assert judge(model, ("deposit", "ann", (5,), "unknown", None), ("balance", "ann", (), "ok", 5)) == "ok"


@pytest.mark.parametrize(
    ("operation", "complaint"),
    [
        (Operation(1, 0, 1, "secret"), "no method"),
        (Operation(1, 0, 1, "__init__"), "no method"),
        (Operation(1, 0, 1, "deposit", "ann", ("x",)), "does not take these"),
        (Operation(1, 0, 1, "deposit", "ann"), "does not take these"),
    ],
)
def test_call_is_refused_when_the_machine_has_no_such_method(operation: Operation, complaint: str) -> None:
    with pytest.raises(HistoryError, match=complaint):
        check([operation], MachineModel(Till))


class Visits(StateMachine):
    """Reads everything that a command can know of its surroundings."""

    clients: list[int] = []  # noqa: RUF012  each machine gets a copy of its own

    @command
    def visit(self) -> list[int]:
        self.clients.append(self.context.client)
        return [self.context.token, self.context.now, self.context.session, self.context.random.randrange(9)]

    @query
    def present(self) -> list[int]:
        return self.clients

    @query
    def draw(self) -> int:
        return self.context.random.randrange(9)

    def session_ended(self, client: int) -> None:
        self.clients.remove(client)


FIRST = RecordedContext(view=1, seqno=2, offset=3, now=40, client=5, session=6)
SECOND = RecordedContext(view=1, seqno=4, offset=0, now=50, client=7, session=8)
ENDED = RecordedContext(view=1, seqno=3, offset=0, now=45)


def visited(at: RecordedContext, **other: Any) -> Operation:
    """Return a visit with the right result, unless told otherwise; all of them are concurrent."""
    machine = Visits()
    with running_at(machine, **msgspec.structs.asdict(at)):
        result = freeze(machine.visit())
    right = Operation(1, 0, 99, "visit", result=result, context=at)
    return msgspec.structs.replace(right, **other)


def present(context: RecordedContext, *clients: int) -> Operation:
    return Operation(2, 0, 99, "present", result=clients, context=context)


def session_ended(context: RecordedContext | None, client: int) -> Operation:
    return Operation("log", 0, 99, "session_ended", None, (client,), "ok", None, context)


def outcome(*operations: Operation) -> str:
    return check(operations, MachineModel(Visits)).outcome


def test_call_is_judged_under_its_context_when_the_history_holds_it() -> None:
    assert outcome(visited(FIRST), visited(SECOND), present(SECOND, 5, 7)) == "ok"
    assert outcome(visited(FIRST), present(FIRST, 5)) == "ok"
    for changed in ({"now": 41}, {"offset": 4}, {"session": 7}, {"seqno": 5}):
        other = msgspec.structs.replace(FIRST, **changed)
        assert outcome(visited(FIRST, context=other)) == "violation", changed


def test_order_is_that_of_the_log_when_the_history_holds_contexts() -> None:
    late = msgspec.structs.replace(visited(FIRST), call=100, returned=110)
    assert outcome(visited(SECOND), late) == "violation"
    assert outcome(visited(FIRST), visited(SECOND), present(FIRST, 5, 7)) == "violation"
    assert outcome(visited(FIRST), visited(SECOND), present(SECOND, 7, 5)) == "violation"


def test_unknown_call_took_effect_when_and_only_when_the_log_holds_it() -> None:
    lost: dict[str, Any] = {"outcome": "unknown", "result": None}
    assert outcome(visited(FIRST, **lost), present(SECOND, 5)) == "ok"
    assert outcome(visited(FIRST, **lost), visited(SECOND), present(SECOND, 7)) == "violation"
    assert outcome(visited(FIRST, context=None, **lost), visited(SECOND), present(SECOND, 7)) == "ok"
    assert (
        outcome(visited(FIRST, context=None, **lost), visited(SECOND), present(SECOND, 5, 7)) == "violation"
    )


def test_session_ends_where_the_log_says_so() -> None:
    ended = session_ended(ENDED, 5)
    assert outcome(visited(FIRST), ended, present(ENDED)) == "ok"
    assert outcome(visited(FIRST), ended, present(FIRST, 5)) == "ok"
    assert outcome(visited(FIRST), ended, visited(SECOND), present(SECOND, 7)) == "ok"
    assert outcome(visited(FIRST), ended, visited(SECOND), present(SECOND, 5, 7)) == "violation"
    assert outcome(visited(FIRST), session_ended(ENDED, 6), present(SECOND, 5)) == "ok"  # its hook raises


def test_query_may_not_draw_random_numbers_in_the_model_either() -> None:
    refused = Operation(1, 0, 99, "draw", outcome="raised", result="RuntimeError", context=FIRST)
    assert outcome(refused) == "ok"


@pytest.mark.parametrize(
    ("history", "complaint"),
    [
        (
            [visited(FIRST, context=None)],
            "Visits.visit reads self.context, which this history does not record",
        ),
        (
            [visited(FIRST), visited(SECOND, context=None)],
            "other operations have a `context`, this one has none",
        ),
        ([session_ended(None, 5)], "session_ended needs a `context`"),
    ],
)
def test_history_is_refused_when_it_lacks_contexts(history: list[Operation], complaint: str) -> None:
    with pytest.raises(HistoryError, match=complaint):
        check(history, MachineModel(Visits))


def test_violation_proves_nothing_when_sessions_may_have_ended() -> None:
    model = MachineModel(Visits)
    present_one = Operation(2, 0, 99, "present", result=(5,))
    assert check([present_one], model).outcome == "violation"
    assert "does not record when sessions ended" in str(model.doubt())
    check([visited(FIRST), present(FIRST)], model)
    assert model.doubt() is None
    assert MachineModel(Till).doubt() is None

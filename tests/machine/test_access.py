"""What a method declares of its keys and callers: spans of keys, and roles."""

from typing import Any

import msgspec
import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.messages import DENIED, RESULT
from viewstamp.core.principals import ANONYMOUS, LOCAL_OPERATOR
from viewstamp.machine.access import EVERY_KEY, Access, Denial, Span, has_role, successor
from viewstamp.machine.context import running_at
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.runner import MachineRunner
from viewstamp.machine.state_machine import StateMachine, command, query

LAST = chr(0x10FFFF)


class Move(msgspec.Struct, frozen=True):
    item: str
    to: str | None = None


class Shop(StateMachine):
    stock: dict[str, int] = {}  # noqa: RUF012  a default that each instance gets a copy of
    buyers: list[str] = []  # noqa: RUF012  as above

    @command(keys=("item",))
    def buy(self, item: str) -> str:
        self.buyers.append(self.context.principal)
        return item

    @command(keys=("moves.item", "moves.to"))
    def move(self, moves: list[Move]) -> None: ...

    @command(keys=("items",))
    def fill(self, items: dict[str, int]) -> None: ...

    @query(ranges=(("first", "end"),))
    def between(self, first: str, end: str | None = "") -> int:
        return 0

    @query(prefixes="prefix")
    def under(self, prefix: bytes = b"") -> int:
        return 0

    @query(keys=())
    def size(self) -> str:
        return self.context.principal

    @command
    def everything(self) -> None: ...

    @command(keys=("number",), roles=("operator", "client/till-*"))
    def close(self, number: int) -> str:
        return self.context.principal


DEFINITION = MachineDefinition.of(Shop)


def spans(method: str, *args: Any) -> list[Span]:
    known = DEFINITION.methods[method]
    return list(known.access.spans(DEFINITION.decode(known.kind, known.encode_call(args, {}))))


def one(key: str) -> Span:
    return Span(key, key + "\0")


@pytest.mark.parametrize(
    ("call", "touched"),
    [
        (("buy", "a"), [one("a")]),
        (("close", 12), [one("12")]),
        (("move", [Move("a", "b"), Move("c", "d")]), [one("a"), one("c"), one("b"), one("d")]),
        (("move", [Move("a")]), [one("a"), EVERY_KEY]),
        (("fill", {"a": 1, "b": 2}), [one("a"), one("b")]),
        (("fill", {}), []),
        (("under", b"shop/"), [Span("shop/", "shop0")]),
        (("under",), [EVERY_KEY]),
        (("between", "a", "c"), [Span("a", "c")]),
        (("between", "a", ""), [Span("a", None)]),
        (("between", "a", None), [Span("a", None)]),
        (("size",), []),
        (("everything",), [EVERY_KEY]),
    ],
)
def test_a_call_touches_the_keys_that_its_class_declares(call: tuple[Any, ...], touched: list[Span]) -> None:
    assert spans(*call) == touched


@pytest.mark.parametrize(
    ("span", "inside"),
    [
        (one("shop/"), True),
        (one("shop/a"), True),
        (one("shop"), False),
        (one("shoq"), False),
        (one(""), False),
        (Span("shop/", "shop0"), True),
        (Span("shop/a", "shop/z"), True),
        (Span("shop/a", "shop0\0"), False),
        (Span("shop/a", "z"), False),
        (Span("shop/a", None), False),
        (Span("a", "shop/b"), False),
        (Span("a", "a"), True),
        (Span("z", "a"), True),
        (EVERY_KEY, False),
    ],
)
def test_a_span_is_within_a_prefix_only_when_both_ends_are(span: Span, inside: bool) -> None:
    assert span.within("shop/") is inside


def test_the_successor_follows_all_that_begin_with_a_prefix() -> None:
    assert successor("a") == "b"
    assert successor("a" + LAST) == "b"
    assert successor("") is None
    assert successor(LAST) is None
    assert Span(LAST, None).within(LAST)


@pytest.mark.parametrize("paths", [{"keys": ("nothing",)}, {"prefixes": ("a",)}, {"ranges": (("key", "b"),)}])
def test_a_declaration_is_refused_when_it_names_no_argument(paths: dict[str, Any]) -> None:
    class Careless(StateMachine):
        @command(**paths)
        def put(self, key: str) -> None: ...

    with pytest.raises(ConfigurationError, match=r"put: it has no argument"):
        MachineDefinition.of(Careless)


def test_a_role_is_the_kind_of_a_principal_or_a_glob_of_principals() -> None:
    assert has_role("operator/ann", ("operator",))
    assert has_role(LOCAL_OPERATOR, ("operator",))
    assert has_role("client/till-4", ("client/till-*",))
    assert has_role("client/shop", ("client",))
    assert not has_role("client/operator", ("operator",))
    assert not has_role("client/till", ("client/till-*",))
    assert not has_role(ANONYMOUS, ("operator", "client", "node"))


def test_a_method_for_a_role_is_denied_where_it_runs_and_changes_nothing() -> None:
    runner = MachineRunner(DEFINITION)
    close = DEFINITION.decode("command", DEFINITION.methods["close"].encode_call((1,), {}))
    runner.context.running = True
    runner.context.principal = "client/shop"
    kind, payload = runner.run(close)
    assert (kind, msgspec.msgpack.decode(payload, type=Denial)) == (
        DENIED,
        Denial("client/shop", "close", "role", needs="operator or client/till-*"),
    )
    runner.context.principal = "client/till-1"
    assert runner.run(close)[0] == RESULT


def test_the_principal_is_anonymous_until_one_is_named() -> None:
    shop = Shop()
    with running_at(shop):
        shop.buy("a")
    with running_at(shop, principal="client/shop"):
        shop.buy("a")
    assert shop.buyers == [ANONYMOUS, "client/shop"]


@pytest.mark.parametrize(
    ("denial", "text"),
    [
        (
            Denial("client/shop", "set", "key", "other\n"),
            "not executed: client/shop may not call set on 'other\\n': no [[grants]] of its own covers that",
        ),
        (
            Denial("client/shop", "range", "key"),
            "not executed: client/shop may not call range on every key: no [[grants]] of its own covers that",
        ),
        (
            Denial("anonymous", "", "grant"),
            "not executed: anonymous may not use this cluster: no [[grants]] of the cluster file names it",
        ),
        (
            Denial("client/a", "close", "role", needs="operator"),
            "not executed: client/a may not call close: the class lets only this role call it: operator",
        ),
        (Denial("client/a", "b", "?"), "not executed: client/a may not call b: it is not permitted"),
    ],
)
def test_a_denial_says_in_one_line_who_was_denied_what_and_why(denial: Denial, text: str) -> None:
    assert denial.text == text


def test_a_name_alone_is_a_declaration_of_one() -> None:
    assert DEFINITION.methods["under"].access == Access(None, ("prefix",))

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.runtime.machines import Counter
from viewstamp.core.errors import ConfigurationError, InvalidCall
from viewstamp.machine.definition import MachineDefinition, Method
from viewstamp.machine.state_machine import StateMachine, command, compose, query
from viewstamp.runtime.client_base import Errors
from viewstamp.runtime.proxies import CallKind, make_proxy, with_options

TYPED = Path(__file__).parent / "typed_proxies.py"


class Taken:
    """A caller that only writes down what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Any], float | None]] = []

    def invoke(
        self, kind: CallKind, payload: bytes, *, timeout_s: float | None, method: Method, errors: Errors
    ) -> None:
        self.calls.append((kind, msgspec.msgpack.decode(payload), timeout_s))


class Wide(StateMachine):
    @command
    def many(self, one: int, two: str = "two", *, three: float = 3.0) -> None:
        """Take three."""

    @query
    def none(self) -> None: ...


def test_arguments_go_out_in_order_with_defaults_when_they_are_named() -> None:
    taken = Taken()
    proxy = make_proxy(Wide, taken)
    proxy.many(1, three=4.0)
    proxy.many(two="b", one=2)
    proxy.none()
    assert [call for _, call, _ in taken.calls] == [["many", 1, "two", 4.0], ["many", 2, "b"], ["none"]]
    assert [kind for kind, _, _ in taken.calls] == ["command", "command", "linearizable"]


def endless() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    "strange",
    ["\ud800", 2**64, -(2**63) - 1, 10**5_000, endless()],
    ids=["half a character", "65 bits", "-64 bits", "5000 digits", "ring"],
)
@pytest.mark.parametrize("named", [False, True])
def test_call_is_refused_by_type_error_when_an_argument_cannot_be_sent(strange: Any, named: bool) -> None:
    taken = Taken()
    proxy = make_proxy(Counter, taken)
    with pytest.raises(TypeError, match="add: an argument cannot be sent, so nothing was"):
        proxy.add(amount=strange) if named else proxy.add(strange)
    assert taken.calls == []


def test_options_hold_for_the_new_proxy_alone() -> None:
    taken = Taken()
    proxy = make_proxy(Counter, taken)
    changed = with_options(with_options(proxy, timeout_s=2.0), reads="stale")
    changed.read()
    proxy.read()
    assert [(kind, timeout_s) for kind, _, timeout_s in taken.calls] == [
        ("stale", 2.0),
        ("linearizable", None),
    ]


@pytest.mark.parametrize(
    "options",
    [{"timeout_s": wrong} for wrong in (0, -1, float("nan"), float("inf"))] + [{"reads": "fast"}],
)
def test_options_are_refused_when_they_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        with_options(make_proxy(Counter, Taken()), **options)


def test_options_are_refused_when_the_object_is_no_proxy() -> None:
    with pytest.raises(ConfigurationError, match="not a proxy"):
        with_options(Counter())


def test_a_proxy_speaks_to_a_part_when_it_is_told_its_name() -> None:
    taken = Taken()
    proxy = make_proxy(Counter, taken, part="first")
    assert type(proxy) is type(make_proxy(Counter, taken, part="first"))
    proxy.add(3)
    assert taken.calls == [("command", ["first.add", 3], None)]


def test_parts_are_reached_by_name_when_the_machine_is_composed() -> None:
    taken = Taken()
    proxy = make_proxy(compose(first=Counter, second=compose(inner=Counter)), taken)
    proxy.first.add(1)
    with_options(proxy, timeout_s=1.0).second.inner.add(2)
    assert taken.calls == [
        ("command", ["first.add", 1], None),
        ("command", ["second.inner.add", 2], 1.0),
    ]


def test_nothing_but_declared_methods_can_be_reached() -> None:
    proxy = make_proxy(Counter, Taken())
    for name in ("value", "snapshot", "restore", "context", "nonsense"):
        with pytest.raises(AttributeError):
            getattr(proxy, name)
    with pytest.raises(AttributeError, match="cannot set"):
        proxy.value = 5


def test_method_keeps_its_docstring() -> None:
    assert make_proxy(Wide, Taken()).many.__doc__ == "Take three."


def test_type_checker_knows_results_and_refuses_wrong_arguments() -> None:
    checked = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--warn-unused-ignores",
            "--cache-dir",
            "/dev/null",
            str(TYPED),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=TYPED.parents[2],
    )
    assert checked.returncode == 0, checked.stdout


def test_a_proxy_offers_what_works_and_nothing_else() -> None:
    proxy = make_proxy(Counter, Taken())
    assert {name for name in dir(proxy) if not name.startswith("_")} == set(
        MachineDefinition.of(Counter).methods
    )
    with pytest.raises(AttributeError, match="'value': it is state of the machine, which a client reads"):
        proxy.value  # noqa: B018
    with pytest.raises(AttributeError, match=r"'typo': it offers .*add"):
        proxy.typo()
    with pytest.raises(AttributeError, match="cannot set value through a proxy"):
        proxy.value = 3


def test_the_signature_is_the_methods_own() -> None:
    proxy = make_proxy(Wide, Taken())
    signature = inspect.signature(proxy.many)
    assert list(signature.parameters) == ["one", "two", "three"]
    assert signature.return_annotation is type(None)


def test_wrong_arguments_are_an_invalid_call_and_nothing_is_sent() -> None:
    taken = Taken()
    proxy = make_proxy(Wide, taken)
    with pytest.raises(
        InvalidCall, match="many: missing a required argument: 'one'; nothing was sent"
    ) as caught:
        proxy.many()
    assert (caught.value.method, caught.value.retry) == ("many", False)
    assert taken.calls == []

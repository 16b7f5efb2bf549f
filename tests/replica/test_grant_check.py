"""Which grants do nothing."""

import pytest

from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine, command
from viewstamp.replica.authorization import Grant
from viewstamp.replica.grant_check import idle_grants


class Shop(StateMachine):
    sold: int = 0

    @command(keys=("item",))
    def buy(self, item: str) -> int:
        self.sold += len(item)
        return self.sold

    @command
    def clear(self) -> None:
        self.sold = 0


def said(grant: Grant) -> list[str]:
    return list(idle_grants([grant], MachineDefinition.of(Shop)))


@pytest.mark.parametrize(
    "principal",
    [
        "client/shop",
        "client/*",
        "operator/a-?",
        "*",
        "c*",
        "local-operator",
        "local-*",
        "anonymous",
        "*/shop",
        "node/1",
    ],
)
def test_who_can_be_somebody_is_no_warning(principal: str) -> None:
    assert said(Grant(principal=principal, methods=("buy", "*"))) == []


@pytest.mark.parametrize("principal", ["shop", "clients/shop", "client", "client/a b", "Client/*", "x*"])
def test_who_can_be_nobody_is_told(principal: str) -> None:
    (line,) = said(Grant(principal=principal, methods=("*",)))
    assert f"{principal!r}, which nobody can be" in line


def test_a_method_that_the_class_does_not_have_is_told() -> None:
    (line,) = said(Grant(principal="client/a", methods=("buy", "sel*")))
    assert line == "[[grants]] of client/a names the method 'sel*', which Shop does not have"


def test_prefixes_of_a_method_that_tells_no_keys_are_told() -> None:
    assert said(Grant(principal="client/a", methods=("*", "buy"), prefixes=("a/",))) == []
    (line,) = said(Grant(principal="client/a", methods=("clear",), prefixes=("a/",)))
    assert "has prefixes, which cover no call of clear" in line


def test_without_a_class_the_methods_are_not_looked_at() -> None:
    assert list(idle_grants([Grant(principal="client/a", methods=("nothing",))], None)) == []

"""Every principal x every method of every shipped service, from the definitions."""

import pkgutil
from importlib import import_module
from typing import Any, get_args

import pytest

import viewstamp.services
from tests.grants.matrix import EVERYTHING, MESSAGES, NUMBERED, PREFIX, SERVICES, Reach
from tests.replica.fakes import CLIENT
from tests.replica.test_authorization import GrantedBench
from viewstamp.core.ids import NodeId
from viewstamp.core.messages import (
    DENIED,
    ClientMessage,
    CloseSession,
    KeepAlive,
    OpenSession,
    Results,
    SessionOpened,
)
from viewstamp.core.principals import ANONYMOUS, LOCAL_OPERATOR, Role, node_principal
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.authorization import Authorizer, Grant
from viewstamp.services.stock import StockService

ALL = SERVICES | NUMBERED
NOBODY = [
    ANONYMOUS,
    LOCAL_OPERATOR,
    "operator/ann",
    node_principal(NodeId(1)),
    "client/other",
    "client/a2",
    "a",
    "",
]
"""Principals that no grant of the matrix names: also those with a role that may do more elsewhere."""


def shipped() -> set[type[StateMachine]]:
    found: set[type[StateMachine]] = set()
    for module in pkgutil.iter_modules(viewstamp.services.__path__):
        for value in vars(import_module(f"viewstamp.services.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, StateMachine) and value is not StateMachine:
                found |= {value} if not value.parts else set(value.parts.values())
    return found


CASES = [(service, name, reach) for service, methods in ALL.items() for name, reach in methods.items()]


def denied(
    service: type[StateMachine], name: str, args: tuple[Any, ...], principal: str, *grants: Grant
) -> bool:
    definition = MachineDefinition.of(service)
    method = definition.methods[name]
    authorizer = Authorizer.of(definition, grants)
    if authorizer is None:
        return False
    arguments = definition.decode(method.kind, method.encode_call(args, {}))
    is_denied = authorizer.denial(principal, arguments) is not None
    assert authorizer.permits_all(principal, [(1, arguments)]) is not is_denied, (
        "the quick look says the same"
    )
    return is_denied


def test_every_shipped_service_and_method_is_in_the_matrix() -> None:
    assert shipped() == set(ALL)
    for service, methods in ALL.items():
        assert set(methods) == set(MachineDefinition.of(service).methods), service
    for method in MachineDefinition.of(StockService).methods.values():
        on_purpose = method.name in EVERYTHING
        assert method.access.is_declared is not on_purpose, f"{method.name}: say which keys it touches"


@pytest.mark.parametrize(("service", "name", "reach"), CASES)
def test_a_method_is_permitted_inside_the_prefix_of_its_grant_alone(
    service: type[StateMachine], name: str, reach: Reach
) -> None:
    prefix = "7" if service in NUMBERED else PREFIX
    grant = Grant(principal="client/a", methods=(name,), prefixes=(prefix,))
    everything = Grant(principal="client/a", methods=(name,))
    elsewhere = Grant(principal="client/a", methods=(name,), prefixes=("zz/",))
    others = tuple(other for other in MachineDefinition.of(service).methods if other != name)
    other_methods = Grant(principal="client/a", methods=others)
    for args in reach.inside:
        assert not denied(service, name, args, "client/a", grant), args
        assert denied(service, name, args, "client/a", elsewhere) is bool(reach.outside), args
    for args in reach.outside:
        assert denied(service, name, args, "client/a", grant), args
        assert not denied(service, name, args, "client/a", grant, everything), args
    for args in (*reach.inside, *reach.outside):
        assert not denied(service, name, args, "client/a", everything), args
        assert denied(service, name, args, "client/a", other_methods), args
        assert not denied(service, name, args, ANONYMOUS), "without grants every call may be made"
        for principal in NOBODY:
            assert denied(service, name, args, principal, grant, everything, other_methods), principal


def test_every_message_of_a_client_is_in_the_matrix() -> None:
    kinds = [kind for group in get_args(ClientMessage) for kind in (get_args(group) or (group,))]
    assert set(kinds) == set(MESSAGES)
    assert {role.value for role in Role} == {"node", "operator", "client", "anonymous"}


@pytest.mark.parametrize("principal", NOBODY)
@pytest.mark.parametrize("message", [OpenSession(CLIENT), KeepAlive(CLIENT, 1), CloseSession(CLIENT, 1)])
def test_a_session_needs_a_grant_whoever_asks(principal: str, message: OpenSession) -> None:
    bench = GrantedBench(Grant(principal="client/a", methods=("get",), prefixes=(PREFIX,)))
    (answer,) = bench.say(message, principal)
    assert isinstance(answer, Results)
    assert [kind for _, kind, _ in answer.results] == [DENIED]
    assert bench.replica.applied.seqno == 0
    (opened,) = bench.say(OpenSession(CLIENT), "client/a")
    assert isinstance(opened, SessionOpened)

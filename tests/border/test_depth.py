"""However deep something is nested, every replica makes the same of it, on whatever path it comes."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from tests.border.machines import Fragile
from tests.border.paths import Paths, results
from viewstamp.core.messages import (
    FAILED,
    INVALID,
    NO_SESSION,
    CloseSession,
    Identify,
    KeepAlive,
    Logged,
    OpenSession,
    SessionOpened,
    Submit,
    client_number,
    encode_message,
)
from viewstamp.sim.workloads.hostile_values import nested_arrays, nested_maps
from viewstamp.testkit.hostile_wire import secret_of

SECRET = secret_of(77)
CLIENT = client_number(SECRET)
DEPTHS_MAX = 1_100
Nest = Callable[[int], bytes]
NESTS: tuple[Nest, ...] = (nested_arrays, nested_maps)


def with_field(message: Logged, field: bytes) -> bytes:
    """The message with one field more than its type has."""
    fields: list[Any] = msgspec.msgpack.decode(encode_message(message))
    return msgspec.msgpack.encode([*fields, msgspec.Raw(field)])


def call(method: str, *arguments: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode([method, *arguments]))


def branches(depth: int) -> msgspec.Raw:
    """A `machines.Branch` that is nested to this depth: two arrays for each level."""
    return msgspec.Raw(b"\x92\xa1x\x91" * depth + b"\x91\xa1x")


def submit(session: int, raw: msgspec.Raw, sequence: int) -> bytes:
    return encode_message(Submit(CLIENT, session, 0, [(sequence, raw)]))


@pytest.fixture
def paths() -> Iterator[Paths]:
    made = Paths()
    made.send(encode_message(Identify(CLIENT, SECRET)))
    yield made
    assert made.differences() == []


def opened(paths: Paths) -> int:
    (answer,) = paths.send(encode_message(OpenSession(CLIENT)))
    assert isinstance(answer, SessionOpened)
    return answer.session


LOGGED: dict[str, Callable[[int], Logged]] = {
    "OpenSession": lambda session: OpenSession(CLIENT, 1),
    "KeepAlive": lambda session: KeepAlive(CLIENT, session, 1),
    "CloseSession": lambda session: CloseSession(CLIENT, session),
    "Submit": lambda session: Submit(CLIENT, session, 0, [(1, call("add", 1))]),
}


@pytest.mark.parametrize("nest", NESTS)
@pytest.mark.parametrize("kind", LOGGED)
def test_an_unknown_field_of_any_depth_enters_no_log(paths: Paths, kind: str, nest: Nest) -> None:
    session = opened(paths)
    entries = paths.leader.replica.applied.seqno
    for depth in range(DEPTHS_MAX + 1):
        paths.send(with_field(LOGGED[kind](session), nest(depth)))
    assert paths.differences() == []
    assert paths.leader.replica.applied.seqno == entries
    assert len(paths.refusals) == DEPTHS_MAX + 1


ARGUMENTS: dict[str, Callable[[int], msgspec.Raw]] = {
    "Any": lambda depth: call("keep", msgspec.Raw(nested_arrays(depth))),
    "Any of maps": lambda depth: call("keep", msgspec.Raw(nested_maps(depth))),
    "a recursive type": lambda depth: call("weigh", branches(depth)),
    "an argument too many": lambda depth: call("add", 1, msgspec.Raw(nested_arrays(depth))),
    "an argument of the wrong type": lambda depth: call("add", msgspec.Raw(nested_arrays(depth))),
    "no such method": lambda depth: call("none", msgspec.Raw(nested_arrays(depth))),
    "not a call": lambda depth: msgspec.Raw(nested_arrays(depth)),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_arguments_of_any_depth_mean_the_same_on_every_path(paths: Paths, kind: str) -> None:
    session = opened(paths)
    for depth in range(1, DEPTHS_MAX + 1):
        paths.send(submit(session, ARGUMENTS[kind](depth), depth))
        assert [bench.replica.halted for bench in paths.benches.values() if bench.replica.halted] == [], depth
    paths.restore()


@pytest.mark.parametrize("method", ["descend", "build"])
def test_a_command_recurses_as_deep_on_every_path(paths: Paths, method: str) -> None:
    session = opened(paths)
    for depth in range(1, DEPTHS_MAX + 1):
        paths.send(submit(session, call(method, depth), depth))
        paths.send(submit(NO_SESSION, call(method, depth), depth))
        assert [bench.replica.halted for bench in paths.benches.values() if bench.replica.halted] == [], depth
    paths.restore()


def test_what_is_too_deep_is_a_result_and_no_accident(paths: Paths) -> None:
    for method in ("descend", "build"):
        ((kind, payload),) = results(paths.send(submit(NO_SESSION, call(method, 100_000), 1)))
        assert kind == FAILED, payload
    ((kind, payload),) = results(paths.send(submit(NO_SESSION, ARGUMENTS["Any"](500), 1)))
    assert kind in {FAILED, INVALID}, payload


def test_ordinary_depth_is_not_refused(paths: Paths) -> None:
    for raw in (
        ARGUMENTS["Any"](16),
        ARGUMENTS["a recursive type"](10),
        call("descend", 100),
        call("build", 16),
    ):
        ((kind, payload),) = results(paths.send(submit(NO_SESSION, raw, 1)))
        assert kind not in {FAILED, INVALID}, payload


@pytest.mark.parametrize("method", ["allocate", "interrupt", "exhaust", "leave"])
def test_whatever_a_command_raises_is_its_result_on_every_path(paths: Paths, method: str) -> None:
    arguments = [2**60] if method == "allocate" else []
    ((kind, _payload),) = results(paths.send(submit(NO_SESSION, call(method, *arguments), 1)))
    assert kind == FAILED
    machine = paths.leader.replica.machine
    assert isinstance(machine, Fragile)
    assert machine.calls == 1

"""Grants and roles at a replica: what no grant permits neither enters the log nor is read."""

import operator
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replica.fakes import CLIENT, HERE, Bench, call, lines, replies, submit
from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import ClientAddress
from viewstamp.core.messages import (
    DENIED,
    EXPIRED,
    NO_SESSION,
    REFUSED,
    RESULT,
    SECRET_BYTES,
    ClientMessage,
    CloseSession,
    Identify,
    KeepAlive,
    OpenSession,
    QueryRequest,
    Redirect,
    ServerMessage,
    SessionOpened,
    client_number,
    encode_message,
)
from viewstamp.core.principals import ANONYMOUS, LOCAL_OPERATOR
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine, command, compose, query
from viewstamp.replica.authorization import Authorizer, Grant, policy_digest
from viewstamp.replica.events import Denied, Requested
from viewstamp.replica.refusals import denial_payload
from viewstamp.replica.responses import OF_ANOTHER
from viewstamp.services.kv import KeyValueStore

SHOP = Grant(principal="client/shop", methods=("get", "set", "range"), prefixes=("shop/",))
MINE, OTHERS = "shop/a", "other/a"


class Journal(StateMachine):
    """Notes who called."""

    names: list[str] = []  # noqa: RUF012  a default that each instance gets a copy of

    @command(keys=("key",))
    def note(self, key: str) -> str:
        self.names.append(self.context.principal)
        return self.context.principal

    @command(keys=("moves",))
    def move(self, moves: dict[str, str]) -> int:
        return len(moves)

    @command(roles=("operator",))
    def wipe(self) -> str:
        return self.context.principal

    @query(keys=("key",))
    def who(self, key: str) -> str:
        return self.context.principal

    def session_ended(self, client: int) -> None:
        self.names.append(self.context.principal)


class GrantedBench(Bench):
    """A bench on which the client speaks for a principal."""

    def __init__(self, *grants: Grant, machine: type[StateMachine] = KeyValueStore) -> None:
        super().__init__(machine, grants=grants)

    def say(
        self, message: ClientMessage, principal: str, source: ClientAddress = HERE
    ) -> list[ServerMessage]:
        client = getattr(message, "client", CLIENT)
        self.replica._responses.addresses.bind(client, source)
        arrived = Requested(source, message, encode_message(message), principal)
        return replies([*self.step(arrived), *self.wake()])

    def command(self, principal: str, *calls: bytes) -> list[tuple[int, int, Any]]:
        numbered = list(enumerate(calls, 1))
        return lines(self.say(submit(NO_SESSION, *numbered), principal))

    def query(self, principal: str, *calls: bytes, reads: str = "linearizable") -> list[tuple[int, int, Any]]:
        raw = [(number, msgspec.Raw(payload)) for number, payload in enumerate(calls, 1)]
        return lines(self.say(QueryRequest(CLIENT, reads, raw), principal))  # type: ignore[arg-type]

    @property
    def reported(self) -> list[Denied]:
        return [effect for effect in self.seen if isinstance(effect, Denied)]


def kinds(answers: list[tuple[int, int, Any]]) -> list[int]:
    return [kind for _, kind, _ in sorted(answers)]


def test_every_call_may_be_made_when_there_is_neither_a_grant_nor_a_role() -> None:
    bench = GrantedBench()
    assert Authorizer.of(bench.definition, ()) is None
    assert kinds(bench.command(ANONYMOUS, call("set", OTHERS, b"1"))) == [RESULT]


@pytest.mark.parametrize(
    "principal", ["client/other", "client/shop2", ANONYMOUS, LOCAL_OPERATOR, "operator/ann"]
)
def test_a_principal_without_a_grant_is_denied_everything_when_there_is_one(principal: str) -> None:
    bench = GrantedBench(SHOP)
    entered = bench.replica.applied
    missing = [principal, "set", "grant", None, ""]
    assert bench.command(principal, call("set", MINE, b"1")) == [(1, DENIED, missing)]
    for reads in ("linearizable", "stale"):
        assert kinds(bench.query(principal, call("get", MINE), reads=reads)) == [DENIED]
    for message in (OpenSession(CLIENT), KeepAlive(CLIENT, 1), CloseSession(CLIENT, 1)):
        (line,) = lines(bench.say(message, principal))
        assert line == (0, DENIED, [principal, "", "grant", None, ""])
    assert bench.replica.applied == entered, "nothing entered the log"
    assert sum(denied.count for denied in bench.reported) == 6


def test_only_the_calls_outside_the_grant_are_denied_when_a_message_has_both() -> None:
    bench = GrantedBench(SHOP)
    answers = bench.command(
        "client/shop", call("set", MINE, b"1"), call("set", OTHERS, b"1"), call("delete", MINE)
    )
    assert kinds(answers) == [RESULT, DENIED, DENIED]
    assert [what[2:4] for _, kind, what in sorted(answers) if kind == DENIED] == [
        ["key", OTHERS],
        ["method", None],
    ]
    assert list(bench.replica.machine._values) == [MINE]  # type: ignore[attr-defined]
    (report,) = bench.reported
    assert report.count == 2
    assert report.text.startswith("not executed: client/shop may not call delete")


@pytest.mark.parametrize("reads", ["linearizable", "stale"])
def test_queries_are_denied_like_commands_when_a_key_or_a_range_leaves_the_grant(reads: str) -> None:
    bench = GrantedBench(SHOP)
    bench.command("client/shop", call("set", MINE, b"1"))
    asked = [
        call("get", MINE),
        call("get", OTHERS),
        call("range", "shop/"),
        call("range", "shop/a", "shop/"),
        call("range", ""),
        call("range", "shop"),
        call("range", "", "shop/"),
    ]
    assert kinds(bench.query("client/shop", *asked, reads=reads)) == [
        RESULT,
        DENIED,
        RESULT,
        RESULT,
        DENIED,
        DENIED,
        DENIED,
    ]


def test_the_grants_of_a_principal_add_up() -> None:
    both = Grant(principal="client/*", methods=("get",), prefixes=("public/", "shop/"))
    bench = GrantedBench(SHOP, both, Grant(principal="client/root", methods=("*",)))
    asked = [call("get", "public/a"), call("get", "shop/a"), call("get", "x")]
    granted = [kind != DENIED for kind in kinds(bench.query("client/shop", *asked))]
    assert granted == [True, True, False]
    assert DENIED not in kinds(bench.query("client/root", *asked, call("range")))


def test_a_call_without_declared_keys_needs_a_grant_without_prefixes() -> None:
    keyed = Grant(principal="operator/ann", methods=("*",), prefixes=("a",))
    bench = GrantedBench(keyed, Grant(principal="operator/bea", methods=("wipe",)), machine=Journal)
    (line,) = bench.command("operator/ann", call("wipe"))
    assert line == (1, DENIED, ["operator/ann", "wipe", "key", None, ""])
    assert kinds(bench.command("operator/bea", call("wipe"))) == [RESULT]


def test_a_call_is_denied_when_any_of_its_keys_is_outside_the_grant() -> None:
    bench = GrantedBench(Grant(principal="client/a", methods=("move",), prefixes=("x", "y")), machine=Journal)
    moves = [{"x1": "", "y1": ""}, {"x1": "", "z": ""}, {"z": "", "x1": ""}]
    answers = bench.command("client/a", *(call("move", each) for each in moves))
    assert kinds(answers) == [RESULT, DENIED, DENIED]
    assert [what[3] for _, kind, what in answers if kind == DENIED] == ["z", "z"]


def test_a_role_of_the_class_is_asked_before_the_log_also_without_grants() -> None:
    bench = GrantedBench(machine=Journal)
    entered = bench.replica.applied
    (line,) = bench.command("client/a", call("wipe"))
    assert line == (1, DENIED, ["client/a", "wipe", "role", None, "operator"])
    assert bench.replica.applied == entered
    assert bench.command("operator/ann", call("wipe")) == [(1, RESULT, "operator/ann")]


def test_the_parts_of_a_composed_machine_are_granted_by_their_names() -> None:
    grant = Grant(principal="client/a", methods=("journal.*",), prefixes=("x",))
    bench = GrantedBench(grant, machine=compose(KeyValueStore, journal=Journal))
    asked = [call("journal.note", "x1"), call("journal.note", "y"), call("set", "x1", b"")]
    assert kinds(bench.command("client/a", *asked)) == [RESULT, DENIED, DENIED]


def test_the_principal_stands_in_the_context_of_commands_and_queries() -> None:
    bench = GrantedBench(machine=Journal)
    assert bench.command("client/a", call("note", "x")) == [(1, RESULT, "client/a")]
    assert bench.query("client/b", call("who", "x")) == [(1, RESULT, "client/b")]
    assert bench.query(ANONYMOUS, call("who", "x"), reads="stale") == [(1, RESULT, ANONYMOUS)]


def test_another_replica_sees_the_same_principals_when_it_applies_the_entries() -> None:
    first, second = GrantedBench(machine=Journal), GrantedBench(machine=Journal)
    first.core.holding = True
    for principal in ("client/a", "client/a", "client/b", ANONYMOUS):
        first.say(submit(NO_SESSION, (1, call("note", "x"))), principal)
    entries = first.core.held
    first.commit_held()
    second.feed(*(second.core.entry(data) for data in entries))
    expected = ["client/a", "client/a", "client/b", ANONYMOUS]
    assert [bench.replica.machine.names for bench in (first, second)] == [expected] * 2  # type: ignore[attr-defined]
    assert first.replica.digest == second.replica.digest


def test_a_role_is_asked_again_where_an_entry_is_executed() -> None:
    """An entry of a leader that did not ask, such as one with an older class."""

    class Open(Journal):
        @command
        def wipe(self) -> str:
            return "wiped"

    lax, strict = GrantedBench(machine=Open), GrantedBench(machine=Journal)
    lax.core.holding = True
    lax.say(submit(NO_SESSION, (1, call("wipe"))), "client/a")
    strict.say(OpenSession(CLIENT), "client/a")
    strict.replica._responses.addresses.waiting.add(CLIENT)
    (line,) = lines(replies(strict.feed(*(strict.core.entry(data) for data in lax.core.held))))
    assert line == (1, DENIED, ["client/a", "wipe", "role", None, "operator"])


def test_the_end_of_a_session_is_nobodys_doing() -> None:
    bench = GrantedBench(machine=Journal)
    (opened,) = bench.say(OpenSession(CLIENT), "client/a")
    bench.say(CloseSession(CLIENT, opened.session), "client/a")  # type: ignore[union-attr]
    bench.command("client/b", call("note", "x"))
    assert bench.replica.machine.names == [ANONYMOUS, "client/b"]  # type: ignore[attr-defined]


def test_a_message_full_of_denied_calls_is_explained_in_part() -> None:
    bench = GrantedBench(SHOP)
    answers = bench.command("client/shop", *([call("set", OTHERS, b"")] * 100))
    assert len(answers) == 100
    assert kinds(answers).count(DENIED) == 64


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Grant(principal="", methods=("*",)), "names a principal"),
        (lambda: Grant(principal="client/a", methods=()), "names no method"),
        (lambda: Grant(principal="client/a", methods=("",)), "names no method"),
        (lambda: Grant(principal="client/a", methods=("*",), prefixes=("",)), "empty prefix"),
    ],
)
def test_a_grant_is_refused_when_it_is_not_what_it_seems(make: Callable[[], Grant], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        make()


def test_policies_have_one_digest_when_they_permit_the_same() -> None:
    turned = Grant(principal="client/shop", methods=("range", "set", "get"), prefixes=("shop/",))
    other = Grant(principal="client/b", methods=("get",))
    assert policy_digest([SHOP, other]) == policy_digest([other, turned])
    assert len({policy_digest(grants) for grants in ([], [SHOP], [other], [SHOP, other])}) == 4
    assert policy_digest([]) == 0


def test_permissions_are_kept_for_a_bounded_number_of_principals() -> None:
    authorizer = Authorizer(MachineDefinition.of(KeyValueStore), [SHOP])
    for number in range(5_000):
        authorizer.session_denial(f"client/{number}")
    assert len(authorizer._by_principal) <= 4_096


SECRET = bytes(range(SECRET_BYTES))
THIEF = ClientAddress(99)


def opened_by(principal: str) -> tuple[GrantedBench, int, int]:
    """Return a bench on which this principal has a session, with the number of its client and the session."""
    bench = GrantedBench(machine=Journal)
    client = client_number(SECRET)
    (opened,) = bench.say(OpenSession(client), principal)
    assert isinstance(opened, SessionOpened)
    return bench, client, opened.session


def test_a_session_serves_no_other_principal_though_it_shows_the_secret() -> None:
    bench, client, session = opened_by("client/a")
    note = call("note", "x")
    for message in (submit(session, (1, note), client=client), KeepAlive(client, session)):
        ((_, kind, _),) = lines(bench.say(message, "client/b"))
        assert kind == EXPIRED
    ((sequence, kind, why),) = lines(bench.say(OpenSession(client), "client/b"))
    assert (sequence, kind) == (0, REFUSED)
    assert "another principal" in why
    bench.say(CloseSession(client, session), "client/b")
    assert lines(bench.say(submit(session, (1, note), client=client), "client/a")) == [
        (1, RESULT, "client/a")
    ]
    assert bench.replica.machine.names == ["client/a"]  # type: ignore[attr-defined]


def test_a_connection_does_not_speak_for_a_client_whose_session_is_another_principals() -> None:
    bench, client, _ = opened_by("client/a")
    me = Identify(client, SECRET)
    (away,) = replies(bench.step(Requested(THIEF, me, encode_message(me), "client/b")))
    assert isinstance(away, Redirect)
    assert away.reason == OF_ANOTHER
    assert bench.replica._responses.addresses.address_of(client) == HERE, "it hears what is for the client"
    assert replies(bench.step(Requested(THIEF, me, encode_message(me), "client/a"))) == []
    assert bench.replica._responses.addresses.address_of(client) == THIEF


def test_a_snapshot_keeps_whose_sessions_there_are() -> None:
    bench, client, session = opened_by("client/a")
    other = GrantedBench(machine=Journal)
    other.install(bench.save())
    note = submit(session, (1, call("note", "x")), client=client)
    assert [kind for _, kind, _ in lines(other.say(note, "client/b"))] == [EXPIRED]
    assert lines(other.say(note, "client/a")) == [(1, RESULT, "client/a")]


class Typed(StateMachine):
    """Keys of every kind, as a class may compare them itself."""

    @query(keys=("key",))
    def one(self, key: str | int | None) -> None: ...

    @query(keys=("key",))
    def one_raw(self, key: bytes) -> None: ...

    @query(prefixes=("prefix",))
    def under(self, prefix: str | int | None) -> None: ...

    @query(prefixes=("prefix",))
    def under_raw(self, prefix: bytes) -> None: ...

    @query(ranges=(("first", "end"),))
    def numbers(self, first: int, end: int | None) -> None: ...

    @query(ranges=(("first", "end"),))
    def texts(self, first: str, end: str | None) -> None: ...

    @query(ranges=(("first", "end"),))
    def raw(self, first: bytes, end: bytes | None) -> None: ...


TYPED = MachineDefinition.of(Typed)
PREFIXES = st.sampled_from(["1", "shop/", "\ue000", "\uffff", "\u00e9"])
TEXTS = st.one_of(st.text(max_size=3), PREFIXES, st.builds(operator.add, PREFIXES, st.text(max_size=2)))
RAW = st.one_of(
    st.binary(max_size=3),
    TEXTS.map(str.encode),
    st.builds(operator.add, TEXTS.map(str.encode), st.binary(max_size=2)),
)
NUMBERS = st.one_of(st.integers(-20, 2_000), st.sampled_from([2**63, 10**18]))


def granted(prefix: str, name: str, *arguments: Any) -> bool:
    """Return whether the call is permitted; encode why not, as a replica does."""
    authorizer = Authorizer(TYPED, [Grant(principal="client/shop", methods=("*",), prefixes=(prefix,))])
    denial = authorizer.denial("client/shop", TYPED.methods[name].arguments(*arguments))
    if denial is not None:
        assert denial_payload(denial)
        assert denial.text.isprintable()
    return denial is None


@given(PREFIXES, st.one_of(TEXTS, NUMBERS, RAW, st.none()))
def test_a_denial_can_be_told_whatever_the_key_is(prefix: str, key: object) -> None:
    raw = "_raw" if isinstance(key, bytes) else ""
    permitted = granted(prefix, "one" + raw, key)
    as_text = key.encode() if isinstance(key, str) else str(key).encode() if isinstance(key, int) else key
    assert not permitted or (isinstance(as_text, bytes) and as_text.startswith(prefix.encode()))
    under = granted(prefix, "under" + raw, key)
    assert not under or permitted


@given(PREFIXES, TEXTS, st.none() | TEXTS, TEXTS)
def test_a_range_of_texts_shows_no_key_outside_the_grant(
    prefix: str, first: str, end: str | None, key: str
) -> None:
    inside = key >= first and (not end or key < end)
    assert not (granted(prefix, "texts", first, end) and inside) or key.startswith(prefix)


@given(PREFIXES, RAW, st.none() | RAW, RAW)
def test_a_range_of_bytes_shows_no_key_outside_the_grant(
    prefix: str, first: bytes, end: bytes | None, key: bytes
) -> None:
    inside = key >= first and (not end or key < end)
    assert not (granted(prefix, "raw", first, end) and inside) or key.startswith(prefix.encode())


@given(PREFIXES, NUMBERS, st.none() | NUMBERS)
def test_a_range_of_numbers_may_be_any_key(prefix: str, first: int, end: int | None) -> None:
    assert not granted(prefix, "numbers", first, end)

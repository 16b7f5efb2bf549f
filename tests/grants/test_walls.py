"""No sequence of allowed calls reveals or changes what lies outside a grant.

Two worlds differ only in what others do outside the prefix: the granted client, which may try any call, gets
the same answers in both. Two worlds differ only in whether the granted client calls at all: what lies outside
is the same in both. Positions and fencing tokens are left out: they count the commands of the whole cluster,
which docs/reference/configuration.md says. So is deleting outside, because the store's versions begin above
those of deleted keys.
"""

from typing import Any, Literal, NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.replica.fakes import call, submit
from tests.replica.test_authorization import GrantedBench
from viewstamp.core.ids import ClientAddress
from viewstamp.core.messages import (
    AskStatus,
    Notified,
    OpenSession,
    QueryRequest,
    Results,
    ServerMessage,
    SessionOpened,
    StatusReply,
    encode_message,
)
from viewstamp.replica.authorization import Grant
from viewstamp.replica.events import Requested, Respond
from viewstamp.services.stock import StockService

PREFIX = "a/"
INSIDE, OUTSIDE = ("a/", "a/x", "a/y"), ("", "a", "a0", "b", "b/x")
GUEST, ROOT = "client/guest", "client/root"
GRANTS = (
    Grant(principal=GUEST, methods=("*",), prefixes=(PREFIX,)),
    Grant(principal=ROOT, methods=("*",)),
)
NUMBERS = {GUEST: 11, ROOT: 12}
STATUS = "(status)"
"""Stands for the question that no call of the class is."""
COMMANDS = {"put", "set", "delete", "locks.acquire", "locks.release"}


class Act(NamedTuple):
    """One call by one of the two."""

    who: str
    method: str
    args: tuple[Any, ...]
    reads: Literal["linearizable", "stale"] = "linearizable"

    @property
    def is_outside(self) -> bool:
        return self.who == ROOT and not self.args[0].startswith(PREFIX)


KEYS = st.sampled_from(INSIDE + OUTSIDE)
NUMBER = st.integers(1, 3)


def acts(who: str, keys: st.SearchStrategy[str], *methods: str) -> st.SearchStrategy[Act]:
    value, reads = st.sampled_from([b"1", b"2"]), st.sampled_from(["linearizable", "stale"])
    shapes: dict[str, st.SearchStrategy[tuple[Any, ...]]] = {
        "get": st.tuples(keys),
        "set": st.tuples(keys, value),
        "delete": st.tuples(keys),
        "range": st.tuples(keys, KEYS, st.integers(0, 3)),
        "locks.acquire": st.tuples(keys, NUMBER),
        "locks.release": st.tuples(keys, NUMBER),
        "locks.stat": st.tuples(keys),
        "locks.held": st.tuples(keys, KEYS, st.integers(0, 3)),
        # Whose errors and refusals have texts, which are answers, too:
        "nothing": st.tuples(keys),
        "put": st.tuples(keys, st.one_of(value, NUMBER), st.one_of(st.integers(0, 2), keys)),
        STATUS: st.tuples(keys),
    }
    chosen = [st.builds(Act, st.just(who), st.just(name), shapes[name], reads) for name in methods or shapes]
    return st.one_of(chosen)


HISTORIES = st.lists(
    st.one_of(
        acts(GUEST, KEYS),
        acts(ROOT, st.sampled_from(OUTSIDE), "put", "set", "locks.acquire", "locks.release"),
        acts(ROOT, st.sampled_from(INSIDE), "set", "delete", "locks.acquire", "locks.release"),
    ),
    max_size=25,
)


class World(GrantedBench):
    """A replica of the stock service with two clients on connections of their own."""

    def __init__(self) -> None:
        super().__init__(*GRANTS, machine=StockService)
        self.heard: dict[str, list[Any]] = {GUEST: [], ROOT: []}
        self.sessions = {who: self._open(who) for who in (GUEST, ROOT)}

    def act(self, number: int, act: Act) -> None:
        client = NUMBERS[act.who]
        payload = call(act.method, *act.args)
        if act.method == STATUS:
            self.tell(act.who, AskStatus(number))
        elif act.method in COMMANDS:
            self.tell(act.who, submit(self.sessions[act.who], (number, payload), client=client))
        else:
            self.tell(act.who, QueryRequest(client, act.reads, [(number, msgspec.Raw(payload))]))

    def tell(self, who: str, message: Any) -> list[ServerMessage]:
        source = ClientAddress(NUMBERS[who])
        self.replica._responses.addresses.bind(NUMBERS[who], source)
        effects = [*self.step(Requested(source, message, encode_message(message), who)), *self.wake()]
        answers: list[ServerMessage] = []
        for effect in effects:
            if isinstance(effect, Respond):
                whose = next(name for name, number in NUMBERS.items() if number == effect.to)
                self.heard[whose].append(self.readable(effect.message))
                answers.append(effect.message)
        return answers

    def readable(self, message: ServerMessage) -> Any:
        """Return what a client learns from a message."""
        return _readable(message)

    def _open(self, who: str) -> int:
        (opened,) = self.tell(who, OpenSession(NUMBERS[who]))
        assert isinstance(opened, SessionOpened)
        return opened.session

    def outside(self) -> Any:
        """What a caller who may read everything finds outside the prefix."""
        asked = [call("range", "", "", 100), call("locks.held", "", "", 100)]
        raw = [(number, msgspec.Raw(payload)) for number, payload in enumerate(asked, 1)]
        (answer,) = self.tell(ROOT, QueryRequest(NUMBERS[ROOT], "stale", raw))
        assert isinstance(answer, Results)
        items, locks = (msgspec.msgpack.decode(payload)[0] for _, _, payload in answer.results)
        # Queues name clients, and a grant its token and moment: the guest's acts move these for everybody.
        held = [(name, holder[0], waiters) for name, holder, waiters, _ in locks]
        return [
            [item for item in items if not item[0].startswith(PREFIX)],
            [lock for lock in held if not lock[0].startswith(PREFIX)],
        ]


def _readable(message: ServerMessage) -> Any:
    """Return what a client learns from a message, without positions and tokens."""
    if isinstance(message, Results):
        return [
            (sequence, kind, _without_tokens(msgspec.msgpack.decode(payload)))
            for sequence, kind, payload in message.results
        ]
    if isinstance(message, SessionOpened):
        return "opened"
    if isinstance(message, Notified):
        return _without_tokens(msgspec.msgpack.decode(message.payload))
    if isinstance(message, StatusReply):
        return _without_numbers(msgspec.to_builtins(message))
    return _without_tokens(msgspec.to_builtins(message))


def _without_numbers(value: Any) -> Any:
    """Return what a status says in words: its numbers count the commands and bytes of the cluster."""
    if isinstance(value, list | tuple):
        return [_without_numbers(item) for item in value]
    return "number" if isinstance(value, int) else value


TOKENS_FROM = 1 << 20


def _without_tokens(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_without_tokens(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_tokens(item) for name, item in value.items()}
    if isinstance(value, bytes):
        try:
            return _without_tokens(msgspec.msgpack.decode(value))
        except msgspec.DecodeError:
            return value
    is_token = isinstance(value, int) and value >= TOKENS_FROM
    return "token" if is_token else value


def live(history: list[Act]) -> World:
    world = World()
    for number, act in enumerate(history, 1):
        world.act(number, act)
    return world


def numbered(history: list[Act], *, keep: Any) -> World:
    """Live only the acts to keep, under the numbers that they have in the whole history."""
    world = World()
    for number, act in enumerate(history, 1):
        if keep(act):
            world.act(number, act)
    return world


@given(HISTORIES)
def test_a_grant_hides_what_lies_outside_it(history: list[Act]) -> None:
    whole = live(history)
    without = numbered(history, keep=lambda act: not act.is_outside)
    assert whole.heard[GUEST] == without.heard[GUEST]


@given(HISTORIES)
def test_a_grant_protects_what_lies_outside_it(history: list[Act]) -> None:
    whole = live(history)
    without = numbered(history, keep=lambda act: act.who == ROOT)
    assert whole.outside() == without.outside()


def test_the_walls_would_be_seen_to_have_holes() -> None:
    """The worlds above are not equal by nature: what others do inside the prefix is seen."""
    history = [Act(ROOT, "set", ("a/x", b"1")), Act(GUEST, "get", ("a/x",))]
    assert live(history).heard[GUEST] != numbered(history, keep=lambda act: act.who == GUEST).heard[GUEST]

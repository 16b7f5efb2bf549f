"""Queries that wait: answered once, when a key of theirs changed, or when their time is up."""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import pytest

from tests.replica.fakes import HERE, Bench, call, replies, submit
from tests.replica.test_alarms import Timer
from tests.replica.test_authorization import GrantedBench
from viewstamp.core.events import Woke
from viewstamp.core.ids import ClientAddress, Instant, NodeId
from viewstamp.core.messages import DENIED, INVALID, REFUSED, RESULT, ServerMessage, Waited, WaitFor
from viewstamp.machine.state_machine import StateMachine, command, compose, query
from viewstamp.replica import waits
from viewstamp.replica.authorization import Grant
from viewstamp.replica.events import ReplicaEffect
from viewstamp.replica.key_spans import KeySpans, Range, prefix_end
from viewstamp.replica.options import ReplicaOptions

THERE = ClientAddress(99)
HOLD_MS = 1_000


class Board(StateMachine):
    """Texts by name; a query waits until one has a text."""

    texts: dict[str, str] = {}  # noqa: RUF012  StateMachine copies the default for each instance
    asked: int = 0

    @command(keys=("name",))
    def write(self, name: str, text: str) -> None:
        """Write a text."""
        self.texts[name] = text
        self.context.changed(name.encode())

    @query(prefixes=("prefix",))
    def read(self, prefix: str) -> list[str]:
        """Return the texts of all names that begin with something; wait until there is one."""
        found = [text for name, text in sorted(self.texts.items()) if name.startswith(prefix)]
        if not found:
            self.context.wait_for(prefix.encode(), prefix_end(prefix.encode()))
        return found


def wait(number: int, prefix: str, hold_ms: int = HOLD_MS) -> WaitFor:
    return WaitFor(number, hold_ms, msgspec.Raw(call("read", prefix)))


def waited(messages: Sequence[ServerMessage]) -> list[tuple[list[int], int, object]]:
    """Return the answers: (requests, kind, payload)."""
    return [
        ([message.request, *message.others], message.kind, msgspec.msgpack.decode(message.payload))
        for message in messages
        if isinstance(message, Waited)
    ]


def write(bench: Bench, name: str, text: str = "t") -> list[ServerMessage]:
    return bench.do(submit(0, (bench.replica.applied.seqno + 1, call("write", name, text))))


def passes(bench: Bench, milliseconds: int) -> list[ReplicaEffect]:
    bench.now += milliseconds * 1_000
    return bench.wake()


def test_a_query_is_answered_at_once_or_when_a_key_of_its_range_changes() -> None:
    bench = Bench(Board)
    write(bench, "a/1")
    assert waited(bench.do(wait(1, "a/"))) == [([1], RESULT, ["t"])]
    assert waited(bench.do(wait(2, "b/"))) == []
    assert waited(write(bench, "a/2")) == []
    assert waited(write(bench, "b/1")) == [([2], RESULT, ["t"])]
    assert waited(write(bench, "b/2")) == []
    assert len(bench.replica.waits) == 0


def test_its_answer_comes_when_its_time_is_up_and_not_later() -> None:
    bench = Bench(Board)
    bench.do(wait(1, "a", 200))
    bench.do(wait(2, "b", 100))
    assert bench.replica.deadline == Instant(100_000)
    assert waited(replies(passes(bench, 99))) == []
    assert waited(replies(passes(bench, 1))) == [([2], RESULT, [])]
    assert waited(replies(passes(bench, 100))) == [([1], RESULT, [])]
    assert bench.replica.waits.due is None
    bench.do(wait(3, "a", 1 << 39))
    assert bench.replica.deadline == 200_000 + waits.HOLD_MAX_MS * 1_000


def test_equal_questions_are_evaluated_once_and_answered_in_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(Board)
    for number in range(1, 8):
        bench.do(wait(number, "a"), HERE if number % 2 else THERE)
    queries = bench.replica.state.runner.queries
    arguments = bench.definition.methods["read"].arguments
    run, ran = queries[arguments], Counter[str]()

    def counted(each: Any) -> tuple[int, bytes]:
        ran["evaluated"] += 1
        return run(each)

    monkeypatch.setitem(queries, arguments, counted)
    assert sorted(waited(write(bench, "a"))) == [([1, 3, 5, 7], RESULT, ["t"]), ([2, 4, 6], RESULT, ["t"])]
    assert ran["evaluated"] == 1


def test_many_are_answered_in_slices_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "SLICE_QUESTIONS", 3)
    monkeypatch.setattr(waits, "SLICE_ANSWERS", 5)
    bench = Bench(Board)
    for number in range(1, 31):
        bench.do(wait(number, f"a{number % 10}" if number % 2 else "a"))
    steps = []
    for number in range(10):
        bench.request(submit(0, (number + 1, call("write", f"a{number}", "t"))))
    while (deadline := bench.replica.deadline) is not None and deadline <= bench.now:
        steps.append(waited(replies(bench.step(Woke()))))
    answered = [request for step in steps for requests, _, _ in step for request in requests]
    assert sorted(answered) == list(range(1, 31))
    assert max(sum(len(requests) for requests, _, _ in step) for step in steps) <= 5


def test_what_cannot_be_asked_is_refused_with_the_reason() -> None:
    bench = Bench(Board, ReplicaOptions(waits_max=3, waits_per_connection_max=2))
    for bad in (call("write", "a", "b"), call("read"), call("nothing")):
        ((_, kind, why),) = waited(bench.do(WaitFor(1, 5, msgspec.Raw(bad))))
        assert kind == INVALID, why
    for number in (1, 2):
        assert waited(bench.do(wait(number, "a"))) == []
    ((_, kind, why),) = waited(bench.do(wait(3, "a")))
    assert kind == REFUSED
    assert "too many queries wait" in str(why)
    assert waited(bench.do(wait(4, "a"), THERE)) == []
    ((_, kind, _),) = waited(bench.do(wait(5, "a"), THERE))
    assert kind == REFUSED
    bench.gone(HERE)
    assert len(bench.replica.waits) == 1
    assert waited(write(bench, "a")) == [([4], RESULT, ["t"])]


def test_a_grant_is_asked_before_anything_is_evaluated() -> None:
    bench = GrantedBench(Grant(principal="client/a", methods=("*",), prefixes=("a/",)), machine=Board)
    for principal, prefix, expected in (
        ("client/a", "a/", []),
        ("client/a", "a", [DENIED]),
        ("client/b", "a/", [DENIED]),
        ("anonymous", "a/", [DENIED]),
    ):
        answers = waited(bench.say(wait(1, prefix), principal))
        assert [kind for _, kind, _ in answers] == expected, (principal, prefix)


def test_a_replica_that_knows_no_leader_keeps_nobody_waiting() -> None:
    bench = Bench(Board)
    bench.do(wait(1, "a"))
    bench.lead(None)
    ((_, kind, why),) = waited(bench.do(wait(2, "a")))
    assert (kind, "knows no leader" in str(why)) == (REFUSED, True)
    ((requests, kind, _),) = waited(replies(passes(bench, HOLD_MS)))
    assert (requests, kind) == ([1], REFUSED)
    bench.lead(NodeId(2))
    assert waited(bench.do(wait(3, "a"))) == [], "a follower serves it as well"


def test_an_installed_snapshot_asks_every_question_again() -> None:
    other = Bench(Board)
    for name in ("a", "b"):
        write(other, name)
    bench = Bench(Board)
    bench.do(wait(1, "a"))
    bench.do(wait(2, "c"))
    assert waited(replies([*bench.install(other.save()), *bench.wake()])) == [([1], RESULT, ["t"])]
    assert len(bench.replica.waits) == 1


def test_too_many_keys_at_once_wake_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waits, "TOUCHED_MAX", 1)
    bench = Bench(Board)
    bench.do(wait(1, "a"))
    bench.do(wait(2, "b"))
    numbered = [(number, call("write", f"a{number}", "t")) for number in (1, 2)]
    assert waited(bench.do(submit(0, *numbered))) == [([1], RESULT, ["t", "t"])]
    assert len(bench.replica.waits) == 1


def test_an_answered_question_wakes_the_replica_no_more() -> None:
    bench = Bench(compose(Board, timer=Timer))  # it has alarms, so that its deadlines are looked at
    write(bench, "a")
    assert waited(bench.do(wait(1, "a"))) == [([1], RESULT, ["t"])]
    bench.now += 10 * HOLD_MS * 1_000
    assert bench.replica.deadline is None
    assert bench.replica.waits.due is None


def test_a_question_whose_connection_closed_before_its_turn_wakes_the_replica_no_more() -> None:
    bench = Bench(compose(Board, timer=Timer))
    bench.request(wait(1, "a"))
    bench.gone(HERE)
    assert bench.replica.deadline is None


def test_moments_of_answered_questions_are_given_back() -> None:
    bench = Bench(Board)
    write(bench, "a")
    for number in range(500):
        bench.do(wait(number, "a"))
    assert len(bench.replica.waits._dues) < 200


def test_ranges_are_found_by_their_keys_as_if_each_was_looked_at() -> None:
    rng = Random(1)
    keys = [b"", b"a", b"a/", b"a/x", b"a/x\0", b"a0", b"b", b"\xff", b"\xff\xff", b"\0"]
    spans: list[Range] = [(key, key + b"\0") for key in keys]
    spans += [(key, prefix_end(key)) for key in keys]
    spans += [(first, end) for first in keys for end in (*keys, None)]
    index, kept = KeySpans(), dict[int, Range]()
    for number in range(600):
        if kept and rng.random() < 0.4:
            gone = rng.choice(sorted(kept))
            index.remove(kept.pop(gone), gone)
        else:
            kept[number] = rng.choice(spans)
            index.add(kept[number], number)
        touched = rng.sample(keys, 2)
        wanted = {
            each
            for each, (first, end) in kept.items()
            if any(key >= first and (end is None or key < end) for key in touched)
        }
        assert index.covering(touched) == wanted
        assert set(index) == set(kept)
    for number, span in kept.items():
        index.remove(span, number)
    assert not index._exact
    assert not index._prefixes
    assert not index._others

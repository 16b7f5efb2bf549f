import io
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checker.histories import store_history
from viewstamp.checker.history import (
    LINE_BYTES_MAX,
    HistoryError,
    Operation,
    RecordedContext,
    Recorder,
    bounded_lines,
    freeze,
    parse_line,
    read_history,
    write_history,
    write_line,
)

GOOD = b'{"client":1,"call":3,"return":9,"op":"put","key":"x","args":["v",0],"outcome":"ok","result":1}'


def test_operation_is_read_when_a_line_has_all_fields() -> None:
    assert parse_line(GOOD) == Operation(1, 3, 9, "put", "x", ("v", 0), "ok", 1)


def test_operation_is_open_when_the_line_has_no_return() -> None:
    assert parse_line(b'{"client":"a","call":3,"op":"get","outcome":"unknown"}') == Operation(
        "a", 3, None, "get", None, (), "unknown"
    )


def test_context_is_kept_when_a_call_has_one() -> None:
    context = RecordedContext(view=3, seqno=4, offset=5, now=6, client=7, session=8)
    operation = Operation("a", 3, 5, "tick", result=6, context=context)
    assert parse_line(write_line(operation)) == operation
    assert b"context" not in write_line(msgspec.structs.replace(operation, context=None))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "truncated"),
        (b"[]", "object"),
        (b"\xff", "malformed"),
        (b'{"client":1}', "call"),
        (b'{"client":1,"call":2,"return":1,"op":"get","outcome":"ok"}', "before `call`"),
        (b'{"client":1,"call":2,"op":"get","outcome":"ok"}', "no `return`"),
        (b'{"client":1,"call":2,"return":3,"op":"get","outcome":"fine"}', "outcome"),
        (b'{"client":1,"call":2,"return":3,"op":"get","outcome":"ok","reslt":1}', "reslt"),
        (b'{"client":1,"call":2,"return":3,"op":"get","outcome":"failed","result":1}', "there is a `result`"),
        (b'{"client":1,"call":2,"return":3,"op":"get","outcome":"raised"}', "name of the exception"),
        (b'{"client":1,"call":2.5,"return":3,"op":"get","outcome":"ok"}', "call"),
        (b'{"client":1,"call":2,"return":3,"op":"get","outcome":"ok","args":7}', "args"),
        (b'{"client":1,"call":2,"return":3,"op":"get","outcome":"ok","context":{"view":1}}', "seqno"),
        (b'{"client":1,"call":2,"return":3,"op":"a","outcome":"ok","context":{"view":1,"seqno":-1}}', ">= 0"),
        (b'{"client":1,"call":2,"return":3,"op":"a","outcome":"ok","key":' + b"[" * 100_000, ""),
        (b" " * LINE_BYTES_MAX + GOOD, "longer than"),
    ],
)
def test_line_is_refused_with_its_number_when_it_is_not_of_the_format(line: bytes, complaint: str) -> None:
    with pytest.raises(HistoryError, match=rf"line 3: .*{complaint}"):
        read_history([GOOD + b"\n", b"\n", line])


@given(st.binary(max_size=200))
def test_any_bytes_are_an_operation_or_a_history_error(line: bytes) -> None:
    try:
        operation = parse_line(line)
    except HistoryError:
        return
    assert parse_line(write_line(operation)) == operation


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)


@given(st.integers(), VALUES, st.lists(VALUES, max_size=3), VALUES)
def test_operation_is_the_same_when_it_was_written_and_read(
    call: int, key: Any, args: list[Any], result: Any
) -> None:
    call %= 2**62
    made = Operation("c", call, call + 5, "op", freeze(key), freeze(args), "ok", freeze(result))
    assert parse_line(write_line(made)) == made
    assert isinstance(hash(made), int)


def test_history_is_the_same_when_it_was_written_and_read() -> None:
    history = store_history(Random(3), 200, unknown=0.1)
    file = io.BytesIO()
    write_history(history, file)
    file.seek(0)
    assert read_history(bounded_lines(file)) == history


def test_endless_line_is_refused_without_being_read_whole() -> None:
    class Endless(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert 0 < size < 2 * LINE_BYTES_MAX
            return b" " * size

        def readable(self) -> bool:
            return True

    lines = bounded_lines(Endless())
    with pytest.raises(HistoryError, match="line 1: the line is longer"):
        read_history(line + b"x" for line in lines)


def test_recorder_keeps_the_order_of_events_when_they_share_a_microsecond() -> None:
    recorder = Recorder()
    first = recorder.begin(1, "read", "x", now=50)
    recorder.end(first, "ok", [1, {"b": 2, "a": 1}], now=50)
    recorder.begin(2, "write", "x", [b"v"], now=50)
    done, pending = recorder.operations()
    assert (done.call, done.returned, done.result) == (50, 51, (1, (("a", 1), ("b", 2))))
    assert (pending.call, pending.returned, pending.outcome, pending.args) == (52, None, "unknown", (b"v",))


class Pair(msgspec.Struct):
    left: int
    right: list[bytes]


def test_value_can_be_hashed_when_it_is_frozen() -> None:
    frozen = freeze({"k": [1, {2, 3}, Pair(1, [b"x"])], "j": bytearray(b"y")})
    assert frozen == (("j", b"y"), ("k", (1, (2, 3), (("left", 1), ("right", (b"x",))))))
    assert isinstance(hash(frozen), int)


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (Operation(1, 0, 1, "get", "x", (), "raised", "NoKey"), "get('x') -> raised NoKey"),
        (Operation(1, 0, None, "write", None, (1,), "unknown"), "write(1) -> unknown"),
        (Operation(1, 0, 1, "set", "x", ("a" * 99,), "ok", 1), f"set('x', '{'a' * 36}...) -> 1"),
    ],
)
def test_operation_reads_as_a_call_when_it_is_printed(operation: Operation, text: str) -> None:
    assert str(operation) == text

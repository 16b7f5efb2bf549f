"""Traces: a hash of everything, lines where they are wanted."""

import io
import json

from viewstamp.sim.world.trace import LAST_LINES_MAX, Trace


def test_hash_differs_when_anything_differs() -> None:
    digests = set[str]()
    for at, kind, node, content in ((1, b"a", 0, b"x"), (2, b"a", 0, b"x"), (1, b"b", 0, b"x"),
                                    (1, b"a", 1, b"x"), (1, b"a", 0, b"y")):  # fmt: skip
        trace = Trace()
        trace.feed(at, kind, node, content)
        digests.add(trace.digest)
    assert len(digests) == 5


def test_hash_is_the_same_when_lines_are_written() -> None:
    sink = io.StringIO()
    quiet, loud = Trace(), Trace(sink)
    for trace in (quiet, loud):
        trace.note(5, "crash", 1, power=True)
        trace.feed(6, b"receive", 2, b"message")
    assert quiet.digest == loud.digest
    assert [json.loads(line) for line in sink.getvalue().splitlines()] == [
        {"at_us": 5, "kind": "crash", "node": 1, "power": True}
    ]


def test_last_lines_are_bounded() -> None:
    trace = Trace(verbose=True)
    for number in range(LAST_LINES_MAX + 10):
        trace.line(number, "tick", 0)
    assert len(trace.last) == LAST_LINES_MAX
    assert json.loads(trace.last[-1])["at_us"] == LAST_LINES_MAX + 9

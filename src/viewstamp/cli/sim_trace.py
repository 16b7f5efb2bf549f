"""What of a trace is written and told: by node, by kind, by time; told as lines that fit a terminal."""

from collections.abc import Iterator
from io import StringIO
from typing import Any, Final

import msgspec

END_S: Final = 1e9
"""Later than any event."""
_CHARACTERS_TOLD: Final = 158
_EVENTS_TOLD: Final = 16
_DULL: Final = frozenset({"Woke", "persisted"})
_LINE: Final = msgspec.json.Decoder(dict[str, Any])


class TraceFilter(msgspec.Struct, frozen=True):
    """Which events; nothing given: all."""

    nodes: tuple[int, ...] = ()
    kinds: tuple[str, ...] = ()
    after_s: float = 0.0
    before_s: float = END_S

    @property
    def is_open(self) -> bool:
        """Whether it lets everything through."""
        return not (self.nodes or self.kinds or self.after_s) and self.before_s == END_S

    def passes(self, line: dict[str, Any]) -> bool:
        """Return whether an event is wanted. What concerns the whole world belongs to every node."""
        node, kind, at_s = line["node"], line["kind"], line["at_us"] / 1e6
        if not self.after_s <= at_s <= self.before_s:
            return False
        if self.kinds and kind not in self.kinds:
            return False
        return not self.nodes or node in self.nodes or node == -1


class FilteredSink(StringIO):
    """A sink of a trace that keeps only what passes."""

    def __init__(self, chosen: TraceFilter) -> None:
        super().__init__()
        self._chosen = chosen

    def write(self, text: str, /) -> int:
        """Write a line, if it is wanted."""
        return super().write(text) if self._chosen.is_open or self._chosen.passes(_LINE.decode(text)) else 0


def told(trace: str) -> Iterator[str]:
    """Yield each event as a line for people."""
    return (told_line(_LINE.decode(text)) for text in trace.splitlines())


def last_events(trace: str) -> str:
    """Return the last lines of a trace as text for people, without what is of no interest to them."""
    found: list[str] = []
    for text in reversed(trace.splitlines()):
        line = _LINE.decode(text)
        if line["kind"] not in _DULL:
            found.append(told_line(line))
        if len(found) == _EVENTS_TOLD:
            break
    return "\n".join(reversed(found))


def told_line(line: dict[str, Any]) -> str:
    """Return an event as a line for people; a long one is cut."""
    at, node, kind = line.pop("at_us"), line.pop("node"), line.pop("kind")
    who = f"node {node}" if node >= 0 else f"{node}"
    rest = ", ".join(f"{name} {value}" for name, value in line.items() if value != [])
    text = f"  {at / 1e6:.6f} s  {who:<7} {kind:<9} {rest}"
    return text if len(text) <= _CHARACTERS_TOLD else f"{text[: _CHARACTERS_TOLD - 3]}..."

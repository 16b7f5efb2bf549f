"""Text for people and for programs. Nothing that came from the network reaches a terminal unescaped."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def printable(text: str) -> str:
    """Return the text with control characters, escapes and lone surrogates spelt out (docs/faults.md#b57).

    What is printable is left as it is, a backslash included: this is for text of our own that quotes others'.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _spelt(letter) for letter in text)


def quoted(text: str) -> str:
    """Return a key or value so that it stays on one line and can be told from any other, without quotes."""
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_ESCAPES.get(letter) or printable(letter) for letter in text)


def _spelt(letter: str) -> str:
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    code = ord(letter)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def show_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(msgspec.json.encode(value).decode())


def show_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a head, columns aligned, every cell on its line."""
    lines = [list(head), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())

"""Figures as JSON, a line for each measurement, so that a change of the file can be read."""

import json
from pathlib import Path
from typing import Any


def encoded(document: Any) -> str:
    """Return a list or an object with each of its items in a line; lists right in an object likewise."""
    if isinstance(document, list):
        return _lines("[", [json.dumps(item) for item in document], "]")
    items = [f"{json.dumps(name)}: {_value(value)}" for name, value in document.items()]
    return _lines("{", items, "}")


def _value(value: Any) -> str:
    return encoded(value) if isinstance(value, list) else json.dumps(value)


def _lines(begin: str, items: list[str], end: str) -> str:
    return "\n".join([begin, ",\n".join(items), end])


def write(path: Path, document: Any) -> None:
    """Write the file, and its folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(encoded(document) + "\n", encoding="utf-8")

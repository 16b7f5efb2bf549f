"""Drawings of histories: a line for each client, a bar from each call to its return.

`draw_text` is for terminals, `draw_svg` for browsers and documents; both are pure. Moments are drawn by
rank, not to scale: an order is what the reader looks for, and gaps of seconds between microseconds would
hide it.
"""

from collections.abc import Collection, Sequence
from html import escape
from typing import Final

from viewstamp.checker.history import Operation

DRAWN_MAX: Final = 2_000
"""More operations than this are not drawn: the last ones are."""

_COLUMN: Final = 46
_ROW: Final = 44
_LEFT: Final = 90
_TOP: Final = 60
_FILL: Final = {"ok": "#cfe3f7", "raised": "#f7e8c3", "failed": "#e4e4e4", "unknown": "#efe3f7"}
_STYLE: Final = "font:12px sans-serif"


def _ranks(operations: Sequence[Operation]) -> dict[int, int]:
    moments = {operation.call for operation in operations}
    moments |= {operation.returned for operation in operations if operation.returned is not None}
    return {moment: rank for rank, moment in enumerate(sorted(moments))}


def _clients(operations: Sequence[Operation]) -> list[int | str]:
    """Return the clients in a fixed order: numbers before names."""
    found = {operation.client for operation in operations}
    return sorted(found, key=lambda client: (isinstance(client, str), str(client).rjust(20)))


def _chosen(operations: Sequence[Operation]) -> list[Operation]:
    return sorted(operations, key=lambda operation: operation.call)[-DRAWN_MAX:]


def draw_text(operations: Sequence[Operation], marked: Collection[Operation] = ()) -> str:
    """Return a line for each operation, its bar drawn over ranks of time; marked ones end in an arrow."""
    chosen = _chosen(operations)
    ranks = _ranks(chosen)
    width = max(len(ranks), 1)
    names = max((len(operation.caller) for operation in chosen), default=0)
    lines = []
    for operation in chosen:
        start = ranks[operation.call]
        end = width if operation.returned is None else ranks[operation.returned]
        tail = ">" if operation.returned is None else "|"
        bar = " " * start + "|" + "-" * max(0, end - start - 1) + tail
        mark = "   <- here" if operation in marked else ""
        lines.append(f"{operation.caller:>{names}}  {bar:<{width + 1}}  {operation}{mark}")
    return "\n".join(lines)


def _lanes(operations: Sequence[Operation]) -> dict[int, int]:
    """Return the row of each operation (by place): a client that pipelines gets several rows."""
    rows = 0
    placed: dict[int, int] = {}
    for client in _clients(operations):
        ends: list[float] = []
        for place, operation in enumerate(operations):
            if operation.client != client:
                continue
            free = next((lane for lane, end in enumerate(ends) if end < operation.call), len(ends))
            end = float("inf") if operation.returned is None else operation.returned
            ends[free : free + 1] = [end]
            placed[place] = rows + free
        rows += len(ends)
    return placed


def draw_svg(operations: Sequence[Operation], title: str, marked: Collection[Operation] = ()) -> str:
    """Return a complete SVG document that refers to nothing outside. Every text in it is escaped."""
    chosen = _chosen(operations)
    ranks = _ranks(chosen)
    lanes = _lanes(chosen)
    width = _LEFT + _COLUMN * (len(ranks) + 2)
    height = _TOP + _ROW * (max(lanes.values(), default=0) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" style="{_STYLE}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="24" font-size="15">{escape(title)}</text>',
    ]
    for place, operation in enumerate(chosen):
        parts += _bar(operation, _TOP + _ROW * lanes[place], ranks, marked=operation in marked)
    return "\n".join([*parts, "</svg>", ""])


def _bar(operation: Operation, top: int, ranks: dict[int, int], *, marked: bool) -> list[str]:
    left = _LEFT + _COLUMN * ranks[operation.call]
    end = len(ranks) + 1 if operation.returned is None else ranks[operation.returned]
    width = max(_LEFT + _COLUMN * end - left, 12)
    stroke = "#c62828" if marked else "#5b7fa6"
    dashes = ' stroke-dasharray="4 3"' if operation.returned is None else ""
    returned = "open" if operation.returned is None else str(operation.returned)
    text = escape(str(operation))
    return [
        f"<g><title>{escape(f'client {operation.caller}')}: {text} [{operation.call} .. {returned}]</title>",
        (
            f'<rect x="{left}" y="{top}" width="{width}" height="18" rx="3" fill="{_FILL[operation.outcome]}"'
            f' stroke="{stroke}" stroke-width="{2.5 if marked else 1}"{dashes}/>'
        ),
        f'<text x="{left + 2}" y="{top + 31}" fill="{stroke if marked else "#222"}">{text}</text>',
        f'<text x="10" y="{top + 13}">{escape(operation.caller)}</text></g>',
    ]


def draw_html(
    operations: Sequence[Operation], title: str, account: str, marked: Collection[Operation] = ()
) -> str:
    """Return a page of its own: the verdict as text above the drawing."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title></head>\n"
        f'<body style="{_STYLE}">\n<pre>{escape(account)}</pre>\n'
        f"{draw_svg(operations, title, marked)}</body></html>\n"
    )

"""The report of CS6650 as a PDF of at most two pages, out of its Markdown page and the figures.

Written by matplotlib, which draws the graphs anyhow: a text of two pages needs no typesetter of its own
(docs/design/decisions.md#report-as-pdf). `make cs6650-report` calls this; alone it is `python -m
benchmarks.cs6650_pdf`.
"""

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any, Final, NamedTuple

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.backends.backend_pdf import PdfPages

from benchmarks.cs6650_report import REPORT, RESULTS, draw

PDF: Final = REPORT.with_suffix(".pdf")
PAGES_MAX: Final = 2
WIDTH, HEIGHT, MARGIN = 8.27, 11.69, 0.75
"""A4, in inches."""
POINT: Final = 1 / 72
SIZES: Final = {"title": 15.0, "heading": 11.0, "text": 8.6, "table": 6.8}
CHARACTERS: Final = 112
"""Of a line of text."""


class Block(NamedTuple):
    """A piece of the report: title, heading, text, image or table."""

    kind: str
    text: str
    rows: tuple[tuple[str, ...], ...] = ()


def blocks(markdown: str) -> Iterator[Block]:
    """Yield the pieces of a page of Markdown, as far as the report uses it."""
    for piece in re.split(r"\n\s*\n", re.sub(r"<!--.*?-->", "", markdown)):
        text = piece.strip()
        if text.startswith("!["):
            for name in re.findall(r"\]\((\S+?)\.svg\)", text):
                yield Block("image", name)
        elif text.startswith("|"):
            lines = [line.strip("| ") for line in text.splitlines() if not re.match(r"\|[\s|-]+$", line)]
            yield Block("table", "", tuple(tuple(map(str.strip, line.split("|"))) for line in lines))
        elif text.startswith("#"):
            level, _, title = text.partition(" ")
            yield Block("title" if level == "#" else "heading", title)
        elif text:
            plain = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", text).replace("**", "").replace("`", "")
            yield Block("text", " ".join(plain.split()))


class Paper:
    """Pages that fill from above."""

    def __init__(self, images: Path) -> None:
        self.pages: list[Any] = []
        self._images = images
        self._y = 0.0
        """Where the next piece begins, in inches from the lower edge."""

    def put(self, block: Block) -> None:
        """Add a piece, on a new page where it does not fit."""
        match block.kind:
            case "image":
                self._image(self._images / f"{block.text}.png")
            case "table":
                self._table(block.rows)
            case _:
                size = SIZES[block.kind]
                lines = wrap(block.text, int(CHARACTERS * SIZES["text"] / size))
                self._room(len(lines) * 1.3 * size * POINT + 0.1)
                for line in lines:
                    self._line(line, size, bold=block.kind != "text")
                self._y -= 0.05

    def _room(self, inches: float) -> None:
        if not self.pages or self._y - inches < MARGIN:
            self.pages.append(plt.figure(figsize=(WIDTH, HEIGHT)))
            self._y = HEIGHT - MARGIN

    def _line(self, text: str, size: float, *, bold: bool = False, x: float = MARGIN) -> None:
        self._y -= 1.3 * size * POINT
        weight = "bold" if bold else "normal"
        self.pages[-1].text(x / WIDTH, self._y / HEIGHT, text, fontsize=size, weight=weight, parse_math=False)

    def _image(self, path: Path) -> None:
        picture = plt.imread(path)
        height = 2.1
        width = height * picture.shape[1] / picture.shape[0]
        self._room(height + 0.1)
        self._y -= height
        place = ((WIDTH - width) / 2 / WIDTH, self._y / HEIGHT, width / WIDTH, height / HEIGHT)
        axes = self.pages[-1].add_axes(place)
        axes.imshow(picture)
        axes.axis("off")
        self._y -= 0.08

    def _table(self, rows: tuple[tuple[str, ...], ...]) -> None:
        size = SIZES["table"]
        self._room(len(rows) * 1.3 * size * POINT + 0.1)
        column = (WIDTH - 2 * MARGIN) / len(rows[0])
        for number, row in enumerate(rows):
            before = self._y
            for place, cell in enumerate(row):
                self._y = before
                self._line(cell, size, bold=number == 0, x=MARGIN + place * column)
        self._y -= 0.08


def make(report: Path, figures: dict[str, Any], target: Path) -> int:
    """Write the PDF and return its number of pages; more than two is an error."""
    with tempfile.TemporaryDirectory() as folder:
        draw(figures, Path(folder), "png")
        paper = Paper(Path(folder))
        for block in blocks(report.read_text(encoding="utf-8")):
            paper.put(block)
    if len(paper.pages) > PAGES_MAX:
        raise SystemExit(f"the report has {len(paper.pages)} pages, and may have {PAGES_MAX}")
    with PdfPages(target, metadata={"Title": "CS6650, assignment 3", "CreationDate": None}) as pdf:
        for page in paper.pages:
            pdf.savefig(page)
            plt.close(page)
    return len(paper.pages)


def main() -> int:
    """Write the report's PDF."""
    figures = json.loads(RESULTS.read_text(encoding="utf-8"))
    print(f"{PDF.name}: {make(REPORT, figures, PDF)} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())

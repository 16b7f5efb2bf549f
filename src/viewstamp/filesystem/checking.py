"""`viewstamp fs fsck`: whether what the service says of its inodes fits together."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from itertools import islice
from typing import Final

import msgspec

from viewstamp.services.extents.model import LISTING_MAX, ROOT, Attributes, Entry
from viewstamp.services.extents.service import ExtentService

_AT_ONCE: Final = 200
PROBLEMS_MAX: Final = 100
"""More than this number are counted and not described."""


class Report(msgspec.Struct):
    """What a check found."""

    directories: int = 0
    files: int = 0
    names: int = 0
    orphans: int = 0
    bytes: int = 0
    """The sizes of all files, holes included."""
    found: int = 0
    problems: list[str] = []

    def add(self, problem: str) -> None:
        """Count a problem, and describe it if there are few."""
        self.found += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


async def check(service: type[ExtentService]) -> Report:
    """Walk the tree from the root and compare names, links, kinds and totals.

    The file system may be in use. What changes meanwhile is then reported where it does not fit.
    """
    report = Report()
    named: Counter[int] = Counter()
    below: Counter[int] = Counter()
    seen: dict[int, Attributes] = {ROOT: await service.look(ROOT)}
    waiting = deque([ROOT])
    while waiting:
        directory = waiting.popleft()
        async for page in _pages(service, directory):
            report.names += len(page)
            named.update(entry.inode for entry in page)
            for entry, attributes in await _looked(service, page):
                if not isinstance(attributes, Attributes):
                    report.add(
                        f"{entry.name!r} in directory {directory} is inode {entry.inode}: {attributes}"
                    )
                    continue
                if attributes.kind != entry.kind:
                    report.add(f"inode {entry.inode} is a {attributes.kind}, its name says {entry.kind}")
                if attributes.kind == "directory":
                    below[directory] += 1
                    if entry.inode not in seen:
                        waiting.append(entry.inode)
                seen[entry.inode] = attributes
    _compare(report, seen, named, below)
    await _compare_totals(service, report, len(seen))
    return report


async def _pages(service: type[ExtentService], directory: int) -> AsyncIterator[list[Entry]]:
    after, more = b"", True
    while more:
        page = await service.listing(directory, after, LISTING_MAX)
        yield page.entries
        more = page.more
        after = page.entries[-1].name if page.entries else after


async def _looked(
    service: type[ExtentService], entries: list[Entry]
) -> list[tuple[Entry, Attributes | BaseException]]:
    looked: list[tuple[Entry, Attributes | BaseException]] = []
    rest = iter(entries)
    while some := list(islice(rest, _AT_ONCE)):
        answers = await asyncio.gather(*(service.look(entry.inode) for entry in some), return_exceptions=True)
        looked.extend(zip(some, answers, strict=True))
    return looked


def _compare(
    report: Report, seen: dict[int, Attributes], named: "Counter[int]", below: "Counter[int]"
) -> None:
    for inode, attributes in sorted(seen.items()):
        if attributes.kind == "directory":
            report.directories += 1
            if attributes.links != 2 + below[inode]:
                report.add(f"directory {inode} has {attributes.links} links and {below[inode]} directories")
            if named[inode] != (inode != ROOT):
                report.add(f"directory {inode} has {named[inode]} names")
        else:
            report.files += 1
            report.bytes += attributes.size
            if attributes.links != named[inode]:
                report.add(f"inode {inode} has {attributes.links} links and {named[inode]} names")


async def _compare_totals(service: type[ExtentService], report: Report, seen: int) -> None:
    totals = await service.totals()
    report.orphans = totals.inodes - seen
    if not 0 <= report.orphans <= totals.orphans:
        report.add(f"of {totals.inodes} inodes {seen} have names, and {totals.orphans} are open without one")

"""Classes that an adversary can use, and that an ordinary program may contain.

Served by `viewstamp serve tests.border.machines:Fragile`.
"""

from typing import Any

import msgspec

from viewstamp.machine.state_machine import StateMachine, command, query


class Branch(msgspec.Struct, array_like=True):
    """A type that contains itself, as trees of comments or folders do."""

    label: str
    children: list["Branch"] = []


class Fragile(StateMachine):
    """Every method breaks in another way if the caller wants it to."""

    calls: int = 0
    trees: list[Branch] = []  # noqa: RUF012  copied for each instance
    kept: list[Any] = []  # noqa: RUF012

    @command
    def add(self, amount: int) -> int:
        self.calls += amount
        return self.calls

    @command
    def allocate(self, count: int) -> int:
        self.calls += 1
        return len(bytearray(count))

    @command
    def interrupt(self) -> None:
        self.calls += 1
        raise KeyboardInterrupt

    @command
    def exhaust(self) -> None:
        self.calls += 1
        raise MemoryError

    @command
    def leave(self) -> None:
        self.calls += 1
        raise SystemExit(3)

    @command
    def descend(self, depth: int) -> int:
        """Count down by recursion, as ordinary recursive code does."""
        self.calls += 1
        return _descend(depth)

    @command
    def weigh(self, tree: Branch) -> int:
        self.calls += 1
        return _weigh(tree)

    @command
    def keep(self, value: Any) -> int:
        self.kept.append(value)
        return len(self.kept)

    @command
    def echo(self, value: bytes) -> bytes:
        """Return as much as was sent: results that nobody acknowledges are kept."""
        self.calls += 1
        return value

    @command
    def build(self, depth: int) -> Any:
        """Return something nested: how deep may a result be?"""
        self.calls += 1
        value: Any = None
        for _ in range(depth):
            value = [value]
        return value

    @command
    def spin(self, turns: int) -> int:
        """Run for as long as the caller says."""
        count = 0
        while count != turns:
            count += 1
        self.calls += 1
        return count

    @query
    def total(self) -> int:
        return self.calls

    @query
    def ask_interrupt(self) -> int:
        raise KeyboardInterrupt

    @query
    def ask_exhaust(self) -> int:
        raise MemoryError

    @query
    def ask_allocate(self, count: int) -> int:
        return len(bytearray(count))

    @query
    def ask_descend(self, depth: int) -> int:
        return _descend(depth)

    @query
    def ask_spin(self, turns: int) -> int:
        count = 0
        while count != turns:
            count += 1
        return count

    @query
    def ask_change(self) -> int:
        """A query that changes the state: a mistake that no type checker sees."""
        self.calls += 1_000
        return self.calls


def _descend(depth: int) -> int:
    return 0 if depth <= 0 else 1 + _descend(depth - 1)


def _weigh(tree: Branch) -> int:
    return 1 + sum(_weigh(child) for child in tree.children)

"""Counters: whole numbers by name, with bounds that an addition respects."""

from typing import ClassVar, Final

import msgspec

from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.services.locks import InvalidName
from viewstamp.services.recipes.names import TooMany, check, quoted

NUMBER_MAX: Final = (1 << 63) - 1
COUNTERS_MAX: Final = 1_000_000


class OutOfBounds(Exception):
    """The counter would leave the bounds that the call names, or those of 64 bits. Nothing was changed."""


class Count(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A counter after a command."""

    value: int
    token: int
    """Fencing token of the command: send it along where the value is used."""


class CounterService(StateMachine):
    """Named counters. One that was never set is 0."""

    raises: ClassVar[tuple[type[Exception], ...]] = (InvalidName, TooMany, OutOfBounds)
    values: dict[str, int] = {}  # noqa: RUF012  StateMachine copies the default for each instance

    @command(keys=("name",))
    def add(
        self, name: str, amount: int = 1, at_least: int | None = None, at_most: int | None = None
    ) -> Count:
        """Add, if the result stays within the bounds, and return it.

        Raises:
            OutOfBounds: it does not.
            InvalidName, TooMany: see there.
        """
        value = self.values.get(name, 0) + amount
        least = -NUMBER_MAX if at_least is None else at_least
        most = NUMBER_MAX if at_most is None else at_most
        if not max(least, -NUMBER_MAX) <= value <= min(most, NUMBER_MAX):
            raise OutOfBounds(f"{quoted(name)} would be {value}, not {least} to {most}: nothing was changed")
        return self._write(name, value)

    @command(keys=("name",))
    def set(self, name: str, value: int, expected: int | None = None) -> Count:
        """Set it, with `expected` only if it is that now.

        Raises:
            OutOfBounds: it has another value.
            InvalidName, TooMany: see there.
        """
        now = self.values.get(name, 0)
        if expected not in {None, now}:
            raise OutOfBounds(f"{quoted(name)} is {now}, not {expected}: nothing was changed")
        return self._write(name, value)

    @command(keys=("name",), frees=True)
    def forget(self, name: str) -> bool:
        """Remove it; return whether it was there."""
        return self.values.pop(name, None) is not None

    @query(keys=("name",))
    def get(self, name: str) -> int:
        """Return its value."""
        return self.values.get(name, 0)

    def _write(self, name: str, value: int) -> Count:
        check(name)
        if name not in self.values and len(self.values) >= COUNTERS_MAX:
            raise TooMany(f"there are {COUNTERS_MAX} counters, as many as may be: forget some")
        self.values[name] = value
        return Count(value, self.context.token)

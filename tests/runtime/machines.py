"""Machines for tests of the runtime."""

from typing import ClassVar

from viewstamp.machine.state_machine import StateMachine, command, query


class Empty(Exception):
    """There is nothing to take."""


class Counter(StateMachine):
    """A number that clients change."""

    raises: ClassVar[tuple[type[Exception], ...]] = (Empty,)
    value: int = 0

    @command
    def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value

    @command
    def take(self, amount: int) -> int:
        if amount > self.value:
            raise Empty(f"only {self.value} left")
        self.value -= amount
        return self.value

    @command
    def explode(self) -> None:
        raise ZeroDivisionError("boom")

    @query
    def read(self) -> int:
        return self.value


class Greeter(StateMachine):
    """A machine that sends one-way messages."""

    greeted: int = 0

    @command
    def greet(self, text: str) -> int:
        self.greeted += 1
        self.context.notify(self.context.client, text)
        return self.greeted

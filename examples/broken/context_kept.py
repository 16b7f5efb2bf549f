"""Broken: one line is wrong. Run `pytest --viewstamp context_kept:Dice`."""

from typing import Any

import viewstamp


class Dice(viewstamp.StateMachine):
    rolls: list[int] = []
    generator: Any = None

    @viewstamp.command
    def roll(self) -> int:
        if self.generator is None:
            self.generator = self.context.random
        self.rolls.append(self.generator.randint(1, 6))
        return self.rolls[-1]

"""Broken: one line is wrong. Run `pytest --viewstamp recursion:Stairs`."""

import viewstamp


class Stairs(viewstamp.StateMachine):
    steps: int = 0

    @viewstamp.command
    def climb(self, steps: int) -> int:
        self.steps = self._climb(steps)
        return self.steps

    def _climb(self, steps: int) -> int:
        return 0 if steps <= 0 else 1 + self._climb(steps - 1)

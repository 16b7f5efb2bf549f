"""Broken: one line is wrong. Run `pytest --viewstamp swallowed:Guesses`."""

import viewstamp


class Guesses(viewstamp.StateMachine):
    failed: int = 0

    @viewstamp.command
    def parse(self, text: str) -> int:
        try:
            return int(text)
        except:
            self.failed += 1
            return -self.failed

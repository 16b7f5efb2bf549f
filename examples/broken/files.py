"""Broken: one line is wrong. Run `pytest --viewstamp files:Audit`."""

from pathlib import Path

import viewstamp


class Audit(viewstamp.StateMachine):
    total: int = 0

    @viewstamp.command
    def add(self, amount: int) -> int:
        self.total += amount
        Path("audit.log").write_text(f"{self.total}\n")
        return self.total

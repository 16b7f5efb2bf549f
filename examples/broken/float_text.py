"""Broken: one line is wrong. Run `pytest --viewstamp float_text:Histogram`."""

import viewstamp


class Histogram(viewstamp.StateMachine):
    total: float = 0.0
    counts: dict[str, int] = {}

    @viewstamp.command
    def add(self, value: float) -> int:
        self.total += value
        key = str(self.total)
        self.counts[key] = self.counts.get(key, 0) + 1
        return self.counts[key]

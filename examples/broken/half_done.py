"""Broken: one line is wrong. Run `pytest --viewstamp half_done:Transfer`."""

import viewstamp


class NoSuchAccount(Exception):
    """Nothing was changed, its author believes."""


class Transfer(viewstamp.StateMachine):
    raises = (NoSuchAccount,)
    balances: dict[str, int] = {"a": 100}

    @viewstamp.command
    def move(self, source: str, target: str, amount: int) -> int:
        self.balances[source] = self.balances.get(source, 0) - amount
        if target not in self.balances:
            raise NoSuchAccount(target)
        self.balances[target] += amount
        return self.balances[target]

"""Broken: one line is wrong. Run `pytest --viewstamp chance:Lottery`."""

import random

import viewstamp


class Lottery(viewstamp.StateMachine):
    tickets: list[str] = []
    winner: str = ""

    @viewstamp.command
    def enter(self, name: str) -> int:
        self.tickets.append(name)
        return len(self.tickets)

    @viewstamp.command
    def draw(self) -> str:
        if self.tickets:
            self.winner = random.choice(self.tickets)
        return self.winner

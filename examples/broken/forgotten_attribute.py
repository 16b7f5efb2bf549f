"""Broken: one line is wrong. Run `pytest --viewstamp forgotten_attribute:Highscore`."""

import viewstamp


class Highscore(viewstamp.StateMachine):
    scores: dict[str, int] = {}

    @viewstamp.command
    def score(self, player: str, points: int) -> str:
        self.scores[player] = self.scores.get(player, 0) + points
        self.leader = max(sorted(self.scores), key=lambda name: (self.scores[name], name))
        return self.leader

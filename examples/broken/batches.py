"""Broken: one line is wrong. Run `pytest --viewstamp batches:Rounds`."""

import viewstamp


class Rounds(viewstamp.StateMachine):
    round_at: int = 0
    played: int = 0

    @viewstamp.command
    def play(self) -> int:
        if self.context.viewstamp.seqno > self.round_at:
            self.round_at = self.context.viewstamp.seqno
            self.played = 0
        self.played += 1
        return self.played

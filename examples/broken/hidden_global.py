"""Broken: one line is wrong. Run `pytest --viewstamp hidden_global:Numbers`."""

import viewstamp

LAST = {"number": 0}


class Numbers(viewstamp.StateMachine):
    owners: dict[int, str] = {}

    @viewstamp.command
    def take(self, owner: str) -> int:
        LAST["number"] += 1
        self.owners[LAST["number"]] = owner
        return LAST["number"]

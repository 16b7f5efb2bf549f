"""Broken: one line is wrong. Run `pytest --viewstamp clock:Timesheet`."""

import datetime

import viewstamp


class Timesheet(viewstamp.StateMachine):
    arrivals: dict[str, str] = {}

    @viewstamp.command
    def arrive(self, name: str) -> None:
        now = datetime.datetime.now(tz=datetime.UTC)
        self.arrivals[name] = now.isoformat()

    @viewstamp.query
    def arrived(self, name: str) -> str:
        return self.arrivals.get(name, "")

"""Broken: one line is wrong. Run `pytest --viewstamp set_order:Agenda`."""

import viewstamp


class Agenda(viewstamp.StateMachine):
    topics: set[str] = set()
    plan: list[str] = []

    @viewstamp.command
    def propose(self, topic: str) -> int:
        self.topics.add(topic)
        return len(self.topics)

    @viewstamp.command
    def decide(self) -> list[str]:
        self.plan = [topic for topic in self.topics]
        return self.plan

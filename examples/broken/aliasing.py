"""Broken: one line is wrong. Run `pytest --viewstamp aliasing:Draft`."""

import viewstamp


class Draft(viewstamp.StateMachine):
    text: list[str] = []
    published: list[str] = []

    @viewstamp.command
    def write(self, line: str) -> int:
        self.text.append(line)
        return len(self.published)

    @viewstamp.command
    def publish(self) -> int:
        self.published = self.text
        return len(self.published)

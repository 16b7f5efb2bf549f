"""What the jobs of the tests do."""

DONE: list[str] = []


def note(what: str) -> None:
    DONE.append(what)


class Clerk:
    def note(self) -> None: ...

"""A class whose next version has a migration that depends on the order of a set, and one that does not."""

from viewstamp.machine.evolution import migration
from viewstamp.machine.state_machine import StateMachine, command


def first_tags() -> type[StateMachine]:
    class Tags(StateMachine):
        tags: set[str] = set()  # noqa: RUF012  copied for each instance

        @command
        def tag(self, name: str) -> int:
            self.tags.add(name)
            return len(self.tags)

    return Tags


class Tags(StateMachine):
    version = 2
    tags: set[str] = set()  # noqa: RUF012
    order: list[str] = []  # noqa: RUF012

    @command
    def tag(self, name: str) -> int:
        self.tags.add(name)
        return len(self.tags)

    @migration(to=2)
    def _list_tags(self) -> None:
        self.order = list(self.tags)


def sorted_tags() -> type[StateMachine]:
    class Tags(StateMachine):
        version = 2
        tags: set[str] = set()  # noqa: RUF012
        order: list[str] = []  # noqa: RUF012

        @command
        def tag(self, name: str) -> int:
            self.tags.add(name)
            return len(self.tags)

        @migration(to=2)
        def _list_tags(self) -> None:
            self.order = sorted(self.tags)

    return Tags


SortedTags = sorted_tags()

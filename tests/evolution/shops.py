"""One class in three versions, as a user would deploy them one after the other."""

import msgspec

from viewstamp.machine.evolution import migration
from viewstamp.machine.state_machine import StateMachine, command, query


def first() -> type[StateMachine]:
    class Receipt(msgspec.Struct):
        item: str
        number: int

    class Shop(StateMachine):
        names: dict[str, str] = {}  # noqa: RUF012  copied for each instance
        sold: int = 0
        receipts: list[Receipt] = []  # noqa: RUF012

        @command
        def name(self, person: str, name: str) -> int:
            self.names[person] = name
            return len(self.names)

        @command
        def buy(self, item: str) -> Receipt:
            self.sold += 1
            self.receipts.append(Receipt(item, self.sold))
            return self.receipts[-1]

        @query
        def count(self) -> int:
            return self.sold

    return Shop


def second() -> type[StateMachine]:
    """Names are split, receipts have a price, and there are refunds."""

    class Receipt(msgspec.Struct):
        item: str
        number: int
        price: int = 7

    class Shop(StateMachine):
        version = 2
        names: dict[str, str] = {}  # noqa: RUF012
        sold: int = 0
        receipts: list[Receipt] = []  # noqa: RUF012
        people: dict[str, tuple[str, str]] = {}  # noqa: RUF012
        seen: int = 0

        @migration(to=2, removes=["names"])
        def _split_names(self) -> None:
            for person, name in self.names.items():
                head, _, tail = name.partition(" ")
                self.people[person] = (head, tail)

        @command
        def name(self, person: str, name: str) -> int:
            self.seen += 1
            if self.context.version < 2:
                self.names[person] = name
                return len(self.names)
            head, _, tail = name.partition(" ")
            self.people[person] = (head, tail)
            return len(self.people)

        @command
        def buy(self, item: str, price: int = 7) -> Receipt:
            self.sold += 1
            self.receipts.append(Receipt(item, self.sold, price))
            return self.receipts[-1]

        @command(since=2)
        def refund(self, number: int) -> int:
            return self.receipts[number - 1].price

        @query
        def count(self) -> int:
            return self.sold

    return Shop


def failing() -> type[StateMachine]:
    """As the second, with a migration that raises where anybody has a name."""
    shop = second()

    class Shop(shop):  # type: ignore[misc, valid-type]
        @migration(to=2, removes=["names"])
        def _split_names(self) -> None:
            self.people["half"] = ("done", "")
            if self.names:
                raise ValueError("a name that cannot be split")

    return Shop

# ruff: noqa: PLW0603, DTZ005, PTH123, TID251, ICN001  what careless users write
# mypy: ignore-errors
"""Classes that write, or read, what lies outside their instance; `careless.CARELESS` lists them."""

import datetime
import itertools
import random
import time
import uuid

from viewstamp.machine.state_machine import StateMachine, command

TOTAL = 0
CACHE: dict[str, int] = {}
LOG: list[str] = []
SEEN: set[str] = set()
IDS = itertools.count(1)
RNG = random.Random(3)
note = LOG.append
throw = random.randint


class Settings:
    size = 1


def remember(key: str) -> None:
    CACHE[key] = 1


def remember_deeply(key: str) -> None:
    remember(key)


def global_counter() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> int:
            global TOTAL
            TOTAL += n
            return TOTAL

    return Bad


def global_dict() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, key: str) -> None:
            CACHE[key] = 1

    return Bad


def global_list() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, key: str) -> None:
            LOG.append(key)

    return Bad


def global_set() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, key: str) -> bool:
            SEEN.add(key)
            return True

    return Bad


def global_in_a_function() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, key: str) -> None:
            remember(key)

    return Bad


def global_two_functions_down() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, key: str) -> None:
            remember_deeply(key)

    return Bad


def global_iterator() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self) -> int:
            return next(IDS)

    return Bad


def attribute_of_another_class() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> None:
            Settings.size = n

    return Bad


def closure() -> type[StateMachine]:
    total = 0

    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> int:
            nonlocal total
            total += n
            return total

    return Bad


def closure_of_a_list() -> type[StateMachine]:
    items = []

    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> int:
            items.append(n)
            return len(items)

    return Bad


def class_attribute_by_type() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> None:
            type(self).value = n

    return Bad


def class_attribute_by_dunder() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> None:
            self.__class__.value += n

    return Bad


def the_clock() -> type[StateMachine]:
    class Bad(StateMachine):
        value: float = 0

        @command
        def add(self) -> None:
            self.value = time.time()

    return Bad


def the_date() -> type[StateMachine]:
    class Bad(StateMachine):
        value: str = ""

        @command
        def add(self) -> None:
            self.value = datetime.datetime.now().isoformat()

    return Bad


def chance() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self) -> None:
            self.value = random.randint(1, 6)

    return Bad


def chance_under_another_name() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self) -> None:
            self.value = throw(1, 6)

    return Bad


def own_generator() -> type[StateMachine]:
    class Bad(StateMachine):
        value: float = 0

        @command
        def add(self) -> None:
            self.value = RNG.random()

    return Bad


def a_uuid() -> type[StateMachine]:
    class Bad(StateMachine):
        value: str = ""

        @command
        def add(self) -> None:
            self.value = str(uuid.uuid4())

    return Bad


def identity() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self) -> None:
            self.value = id(self)

    return Bad


def a_file() -> type[StateMachine]:
    class Bad(StateMachine):
        value: str = ""

        @command
        def add(self) -> None:
            with open("x") as file:
                self.value = file.read()

    return Bad


def bound_append() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self) -> None:
            note("x")

    return Bad

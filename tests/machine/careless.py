# ruff: noqa: E501, RUF012  what careless users write
# mypy: ignore-errors
"""Fifty classes as a careless user writes them: each loses or splits state unless it is refused or named.

`CARELESS` holds (class factory, words of the refusal). `SOUND` holds classes that look alike and are right.
"""

import dataclasses
import enum
import functools
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any, ClassVar

import msgspec

from tests.machine import careless_outside as outside
from viewstamp.machine.state_machine import StateMachine, command, compose, query

LOG: list[str] = []
LIMIT = 10


class Settings:
    size = 1


def pure(key: str) -> int:
    found = {}
    found[key] = LIMIT
    return len(found)


class Colour(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Open(msgspec.Struct, dict=True):
    x: int = 0


@dataclasses.dataclass
class Box:
    x: int = 0


def unannotated() -> type[StateMachine]:
    class Bad(StateMachine):
        total = 0

        @command
        def add(self, n: int) -> int:
            self.total += n
            return self.total

    return Bad


def unannotated_dict() -> type[StateMachine]:
    class Bad(StateMachine):
        stock = {}

        @command
        def add(self, n: int) -> None:
            self.stock[n] = n

    return Bad


def unannotated_list_in_capitals() -> type[StateMachine]:
    class Bad(StateMachine):
        ITEMS = []

        @command
        def add(self, n: int) -> None:
            self.ITEMS.append(n)

    return Bad


def set_in_a_command() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> None:
            self.last = n

    return Bad


def set_in_a_helper() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> None:
            self._note(n)

        def _note(self, n: int) -> None:
            self._last = n

    return Bad


def set_in_init() -> type[StateMachine]:
    class Bad(StateMachine):
        def __init__(self) -> None:
            self.items = []

        @command
        def add(self, n: int) -> None:
            self.items.append(n)

    return Bad


def set_in_a_query() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @query
        def read(self) -> int:
            self.reads = 1
            return self.value

    return Bad


def set_in_a_loop() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> None:
            for self.place in range(n):
                pass

    return Bad


def set_by_unpacking() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> None:
            self.value, self.other = n, n

    return Bad


def set_by_setattr() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> None:
            setattr(self, "other", n)  # noqa: B010

    return Bad


def set_behind_the_guard() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> None:
            object.__setattr__(self, "other", n)

    return Bad


def written_into_dict() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> None:
            self.__dict__["other"] = n

    return Bad


def written_by_vars() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @command
        def add(self, n: int) -> None:
            vars(self).update(other=n)

    return Bad


def shared_class_variable() -> type[StateMachine]:
    class Bad(StateMachine):
        cache: ClassVar[dict[str, int]] = {}

        @command
        def add(self, key: str) -> None:
            self.cache[key] = 1

    return Bad


def cached() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0

        @functools.cached_property
        def double(self) -> int:
            return 2 * self.value

        @query
        def read(self) -> int:
            return self.double

    return Bad


def helper_object() -> type[StateMachine]:
    class Bad(StateMachine):
        value: int = 0
        helper = Box()

        @command
        def add(self, n: int) -> None:
            self.helper.x += n

    return Bad


def a_deque() -> type[StateMachine]:
    class Bad(StateMachine):
        queue: deque[int] = deque()

        @command
        def add(self, n: int) -> None:
            self.queue.append(n)

    return Bad


def a_counter() -> type[StateMachine]:
    class Bad(StateMachine):
        counts: Counter[str] = Counter()

        @command
        def add(self, key: str) -> None:
            self.counts[key] += 1

    return Bad


def a_defaultdict_called_dict() -> type[StateMachine]:
    class Bad(StateMachine):
        counts: dict[str, int] = defaultdict(int)

        @command
        def add(self, key: str) -> None:
            self.counts[key] += 1

    return Bad


def an_ordered_dict() -> type[StateMachine]:
    class Bad(StateMachine):
        counts: dict[str, int] = OrderedDict()

        @command
        def first(self) -> None:
            self.counts.move_to_end("a")

    return Bad


def a_callback() -> type[StateMachine]:
    class Bad(StateMachine):
        hook: Any = print

        @command
        def add(self, n: int) -> None:
            self.hook(n)

    return Bad


def an_object() -> type[StateMachine]:
    class Bad(StateMachine):
        thing: Settings = Settings()

        @command
        def add(self, n: int) -> None:
            self.thing.size = n

    return Bad


def a_wrong_default() -> type[StateMachine]:
    class Bad(StateMachine):
        total: int = None

        @command
        def add(self, n: int) -> None:
            self.total = n

    return Bad


def a_tuple_under_any() -> type[StateMachine]:
    class Bad(StateMachine):
        data: Any = (1, 2)

        @command
        def add(self, n: int) -> None:
            self.data = (n, *self.data)

    return Bad


def an_enum_called_int() -> type[StateMachine]:
    class Bad(StateMachine):
        level: int = Level.LOW

        @command
        def add(self, n: int) -> str:
            return self.level.name

    return Bad


def no_default() -> type[StateMachine]:
    class Bad(StateMachine):
        total: int

        @command
        def add(self, n: int) -> None:
            self.total = n

    return Bad


def careless_part() -> type[StateMachine]:
    return compose(good=Good, bad=unannotated())


def inherited() -> type[StateMachine]:
    class Worse(unannotated()):
        more: int = 0

    return Worse


def half_saved() -> type[StateMachine]:
    class Bad(StateMachine):
        total: int = 0

        @command
        def add(self, n: int) -> None:
            self.total += n

        def snapshot(self) -> bytes:
            return b""

    return Bad


class Good(StateMachine):
    total: int = 0
    names: dict[str, list[int]] = {}
    pairs: list[tuple[int, str]] = []
    tags: set[str] = set()
    colour: Colour = Colour.RED
    box: Box = Box()
    SIZE = 10
    KINDS: ClassVar[tuple[str, ...]] = ("a", "b")

    @property
    def double(self) -> int:
        return 2 * self.total

    @double.setter
    def double(self, value: int) -> None:
        self.total = value // 2

    @command
    def add(self, n: int) -> int:
        local = {}
        local[n] = n
        found = []
        found.append(pure(str(n)))
        self.double = n
        self.names.setdefault("a", []).append(n)
        self.pairs.append((n, "x"))
        self.tags.add(str(n))
        self.total += len(local) + self.SIZE + LIMIT
        LOG.count("a")
        return self.total

    def helper(self, items: list[int]) -> None:
        items.append(1)


class SavesItself(StateMachine):
    def __init__(self) -> None:
        self._sums = {}
        self.total = 0

    @command
    def add(self, n: int) -> int:
        self.total += n
        self._derived = n
        return self.total

    def snapshot(self) -> bytes:
        return self.total.to_bytes(8, "big")

    def restore(self, snapshot: bytes) -> None:
        self.total = int.from_bytes(snapshot, "big")


MISSING = "would be missing from snapshots"
CARELESS = [
    (unannotated, f"total {MISSING}"), (unannotated_dict, f"stock {MISSING}"),
    (unannotated_list_in_capitals, f"ITEMS {MISSING}"), (set_in_a_command, f"last {MISSING}"),
    (set_in_a_helper, f"_last {MISSING}"), (set_in_init, f"items {MISSING}"),
    (set_in_a_query, f"reads {MISSING}"), (set_in_a_loop, f"place {MISSING}"),
    (set_by_unpacking, f"other {MISSING}"), (set_by_setattr, f"other {MISSING}"),
    (set_behind_the_guard, f"other {MISSING}"), (written_into_dict, "writes into self.__dict__"),
    (written_by_vars, "writes into self.__dict__"), (outside.global_counter, "writes TOTAL of its module"),
    (outside.global_dict, "writes into CACHE"), (outside.global_list, "calls .append of LOG"),
    (outside.global_set, "calls .add of SEEN"), (outside.global_in_a_function, "(in remember) writes into CACHE"),
    (outside.global_two_functions_down, "(in remember) writes into CACHE"), (outside.global_iterator, "draws from IDS"),
    (outside.attribute_of_another_class, "writes Settings.size"), (outside.closure, "writes total of the function around"),
    (outside.closure_of_a_list, "calls .append of items"), (outside.class_attribute_by_type, "class attribute value"),
    (outside.class_attribute_by_dunder, "class attribute value"), (shared_class_variable, "cache: a ClassVar dict"),
    (cached, "cached_property"), (helper_object, f"helper {MISSING}"), (a_deque, "Bad.queue has a type"),
    (a_counter, "Bad.counts"), (a_defaultdict_called_dict, "Bad.counts would come back changed"),
    (an_ordered_dict, "Bad.counts would come back changed"), (a_callback, "Bad.hook cannot be saved"),
    (an_object, "Bad.thing has a type"), (a_wrong_default, "Bad.total cannot be saved"),
    (a_tuple_under_any, "a tuple becomes a list"), (an_enum_called_int, "Bad.level would come back changed"),
    (no_default, "Bad.total: give it a default"), (careless_part, f"total {MISSING}"),
    (outside.the_clock, "calls time.time, which differs"), (outside.the_date, "calls datetime.datetime.now"),
    (outside.chance, "use self.context.random"), (outside.chance_under_another_name, "use self.context.random"),
    (outside.own_generator, "use self.context.random"), (outside.a_uuid, "uuid.uuid4"), (outside.identity, "builtins.id"),
    (outside.a_file, "builtins.open"), (outside.bound_append, "calls note, which changes"),
    (inherited, f"total {MISSING}"), (half_saved, "override snapshot and restore together"),
]  # fmt: skip
SOUND = [Good, SavesItself]

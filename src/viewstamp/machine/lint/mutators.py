"""Names of methods and functions that change what they are called on, or given."""

from typing import Final

MUTATORS: Final = frozenset({
    "add", "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "move_to_end", "pop",
    "popitem", "popleft", "remove", "reverse", "rotate", "setdefault", "sort", "subtract", "update",
    "difference_update", "intersection_update", "symmetric_difference_update", "__setitem__", "__delitem__",
})  # fmt: skip
"""Methods that change a container."""
CHANGING_FUNCTIONS: Final = frozenset({
    "heappush", "heappop", "heapify", "heapreplace", "heappushpop", "insort", "insort_left", "insort_right",
    "setitem", "delitem", "setattr", "delattr", "next", "shuffle",
})  # fmt: skip
"""Functions that change their first argument."""

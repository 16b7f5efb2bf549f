"""The fingerprint of a user's class: another one means that two members run other code.

It is made of the source of the class, of its parts and of the classes that it is derived from, and of the
schema of its state. What the class calls in other modules is not in it.
"""

import inspect
from collections.abc import Iterator
from typing import Final

import msgspec
import xxhash

from viewstamp.machine.schema import schema_of
from viewstamp.machine.state_machine import StateMachine

UNKNOWN: Final = 0
"""Where the source cannot be read: it is compared with nothing."""
_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")


def fingerprint_of(machine: type[StateMachine]) -> int:
    """Return 63 bits that differ where the class does; `UNKNOWN` where its source cannot be read."""
    try:
        sources = [inspect.getsource(cls) for cls in _classes(machine)]
    except (OSError, TypeError):
        return UNKNOWN
    return xxhash.xxh3_64_intdigest(_ENCODER.encode((sources, schema_of(machine)))) >> 1 or 1


def _classes(machine: type[StateMachine]) -> Iterator[type]:
    """Yield the classes that decide what the machine does, the library's own excepted."""
    if machine.parts:
        for _, part in sorted(machine.parts.items()):
            yield from _classes(part)
        return
    for cls in machine.__mro__:
        if cls is not StateMachine and cls is not object and issubclass(cls, StateMachine):
            yield cls

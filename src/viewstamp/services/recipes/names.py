"""What all recipes check and refuse alike, and what they tell clients."""

from typing import Final, Literal

import msgspec

from viewstamp.services.locks import LABEL_BYTES_MAX, NAME_BYTES_MAX, InvalidName, NoSession

SEQUENCE_MAX: Final = 1 << 53
VALUE_BYTES_MAX: Final = 4_096
"""Bytes that an elected process or a registered instance may publish."""
PAGE_MAX: Final = 1_000

Key = tuple[int, int]
"""A claim: the client and the number that it drew."""


class TooMany(Exception):
    """A limit of the service is reached. Nothing was changed."""


class TooLarge(Exception):
    """A value, a weight or a cost is larger than the service takes. Nothing was changed."""


class Mismatch(Exception):
    """The object exists with another size than the call names. Nothing was changed."""


class Claimed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a claim was answered."""

    state: Literal["granted", "waiting"]
    token: int = 0
    """The fencing token of the grant; 0 while it waits."""


WAITING: Final = Claimed("waiting")

Released = Literal["released", "withdrawn", "unknown"]
"""How a release was answered. withdrawn: it was waiting still. unknown: there is no such claim (now)."""


class Ask(msgspec.Struct, frozen=True, array_like=True, tag="recipe.ask", gc=False):
    """To the client of a claim: something changed, ask again under this number. It may be lost, or late."""

    recipe: str
    name: str
    sequence: int


class Changed(msgspec.Struct, frozen=True, array_like=True, tag="recipe.changed", gc=False):
    """To a client that observes a name: something changed, look again. It may be lost, or late."""

    recipe: str
    name: str


Notice = Ask | Changed


def check(name: str, label: str = "", value: bytes = b"") -> None:
    """Raise `InvalidName` or `TooLarge` for what the recipes do not take."""
    length = len(name.encode("utf-8", "surrogatepass"))
    if not 0 < length <= NAME_BYTES_MAX:
        raise InvalidName(f"a name has from 1 to {NAME_BYTES_MAX} bytes, not {length}: nothing was changed")
    if len(label.encode("utf-8", "surrogatepass")) > LABEL_BYTES_MAX:
        raise InvalidName(f"the label of a client has up to {LABEL_BYTES_MAX} bytes: nothing was changed")
    if len(value) > VALUE_BYTES_MAX:
        raise TooLarge(f"a value has up to {VALUE_BYTES_MAX} bytes, not {len(value)}: nothing was changed")


def check_sequence(sequence: int) -> None:
    """Raise `InvalidName` for a number that no client draws."""
    if not 0 < sequence <= SEQUENCE_MAX:
        raise InvalidName(f"the number of a claim is from 1 to {SEQUENCE_MAX}: nothing was changed")


def quoted(name: str) -> str:
    """Return a name as it may stand in a line of a log (docs/faults.md#b57)."""
    return ascii(name if len(name) <= 100 else name[:100] + "...")


def no_session() -> NoSession:
    """Return the refusal of a client without a session."""
    return NoSession("a claim needs a client with a session: connect with exactly_once=True")

"""The messages of the course's form (assignment 3, section 2.2).

They are made of integers and the bytes of one entry, so that the course's programs can pack them as the
assignment's 4-byte integers. The tags and the order of fields are the wire's ABI, together with those of
`protocols.primary_backup.messages`.
"""

from typing import TypeAlias, assert_never

import msgspec

from viewstamp.protocols.replication.node_state import in_range


class Greet(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """I am primary, and you are new to me or were away: where does your log end?"""

    view: int
    """Number of the takeover: it tells a late message of a dead primary from one of the present primary."""
    factory_id: int
    committed_index: int
    last_index: int
    last_view: int
    """The takeover in which the entry at `last_index` was made."""


class Greeted(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Answer to `Greet`, and to a `Replicate` that does not follow this log."""

    view: int
    committed_index: int
    last_index: int
    last_view: int


class Replicate(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Replication request: write this entry at `last_index`, apply up to `committed_index` (2.2, step 4)."""

    view: int
    factory_id: int
    committed_index: int
    last_index: int
    entry_view: int
    """The takeover in which this entry was made."""
    previous_view: int
    """The takeover in which the entry before it was made."""
    entry: bytes


class Replicated(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """Answer to `Replicate`: my log is yours up to `last_index`. A higher view: you are no longer primary."""

    view: int
    last_index: int


class Fetch(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """I am primary now, and your log is newer than mine: send me its entries from `first_index` on."""

    view: int
    factory_id: int
    first_index: int


class Fetched(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Answer to `Fetch`, one for each entry, `catch_up_window` of them at a time."""

    view: int
    last_index: int
    """Index of this entry."""
    entry_view: int
    """The takeover in which it was made."""
    entry: bytes


CourseMessage: TypeAlias = Greet | Greeted | Replicate | Replicated | Fetch | Fetched


def is_in_range(message: CourseMessage) -> bool:
    """Return whether all numbers in a message are in the range that they could have."""
    match message:
        case Greet() | Greeted():
            stand = message.view, message.committed_index, message.last_index, message.last_view
            return in_range(*stand)
        case Replicate():
            views = message.view, message.entry_view, message.previous_view
            return in_range(*views, message.committed_index, message.last_index)
        case Replicated():
            return in_range(message.view, message.last_index)
        case Fetch():
            return in_range(message.view, message.first_index)
        case Fetched():
            return in_range(message.view, message.last_index, message.entry_view)
        case _:
            assert_never(message)

"""Which operation is done by which function."""

from typing import Any, assert_never

from viewstamp.services.extents import changing, reading
from viewstamp.services.extents.flushing import sync
from viewstamp.services.extents.operations import (
    Close,
    Create,
    GetAttributes,
    GetTotals,
    LinkTo,
    ListNames,
    Lookup,
    Open,
    Operation,
    Read,
    ReadLink,
    Remove,
    Rename,
    SetAttributes,
    Sync,
    Write,
)
from viewstamp.services.extents.task import Action, Task


def begin(task: Task, operation: Operation) -> Action[Any]:  # noqa: C901, PLR0912  a flat table
    """Return what does an operation."""
    match operation:
        case Lookup():
            return reading.lookup(task, operation)
        case GetAttributes():
            return reading.get_attributes(task, operation)
        case SetAttributes():
            return changing.set_attributes(task, operation)
        case ReadLink():
            return reading.read_link(task, operation)
        case Create():
            return changing.create(task, operation)
        case LinkTo():
            return changing.link(task, operation)
        case Remove():
            return changing.remove(task, operation)
        case Rename():
            return changing.rename(task, operation)
        case Open():
            return reading.open_file(task, operation)
        case Close():
            return changing.close(task, operation)
        case Read():
            return reading.read(task, operation)
        case Write():
            return changing.write(task, operation)
        case Sync():
            return sync(task, operation)
        case ListNames():
            return reading.list_names(task, operation)
        case GetTotals():
            return reading.get_totals(task, operation)
        case _:
            assert_never(operation)

"""The customer records of the robot factories (CS6650, assignment 3) as a machine for any protocol.

Rules of this file:

- a record is the number of the last order of a customer; a customer without an order has none;
- the log holds `MapOp`s, whose opcode leaves room for more operations than the one that there is;
- an operation that raises has changed nothing, on every replica alike.
"""

from typing import ClassVar, Final

import msgspec

from viewstamp.machine.state_machine import StateMachine, command, query

UPDATE: Final = 1
"""Opcode: set the record of customer `arg1` to `arg2`, creating it if there is none."""
NO_RECORD: Final = -1
"""In a `CustomerRecord` that is returned: there is no such record."""
INTEGER_MAX: Final = (1 << 31) - 1
"""The records' integers are those of C."""


class UnknownOperation(Exception):
    """The opcode is not one of this program's. Nothing was changed."""


class InvalidOperation(Exception):
    """An argument of the operation cannot be one. Nothing was changed."""


class MapOp(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An operation on the map of customer records, as it stands in the log (1.2.1 of the assignment)."""

    opcode: int
    arg1: int
    """The customer's id."""
    arg2: int
    """The operation's parameter: for `UPDATE` the order's number."""


class CustomerRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a customer gets who reads a record; `NO_RECORD` twice where there is none."""

    customer_id: int
    last_order: int


def check_operation(operation: MapOp) -> None:
    """Raise what `CustomerRecords.update` would raise for this operation."""
    if operation.opcode != UPDATE:
        raise UnknownOperation(f"there is no operation {operation.opcode}: 1 updates a record")
    if not 0 <= operation.arg1 <= INTEGER_MAX:
        raise InvalidOperation(f"customer {operation.arg1}: ids are from 0 to {INTEGER_MAX}")
    if not 0 <= operation.arg2 <= INTEGER_MAX:
        raise InvalidOperation(f"order {operation.arg2}: orders are numbered from 0 to {INTEGER_MAX}")


class CustomerRecords(StateMachine):
    """The map from customers to their last orders."""

    raises: ClassVar[tuple[type[Exception], ...]] = (UnknownOperation, InvalidOperation)
    """What clients get as these very exceptions."""
    customer_record: dict[int, int] = {}  # noqa: RUF012  a default that each instance gets a copy of

    @command(keys=("operation.arg1",))
    def update(self, operation: MapOp) -> int:
        """Apply one operation of the log; return the record's value after it.

        Raises:
            UnknownOperation, InvalidOperation: see `check_operation`.
        """
        check_operation(operation)
        self.customer_record[operation.arg1] = operation.arg2
        return operation.arg2

    @query(keys=("customer_id",))
    def read(self, customer_id: int) -> CustomerRecord:
        """Return the customer's record, or the one that says that there is none."""
        last_order = self.customer_record.get(customer_id)
        if last_order is None:
            return CustomerRecord(NO_RECORD, NO_RECORD)
        return CustomerRecord(customer_id, last_order)

"""The engineer: serves one customer, one request after the other (1.1 and 2.3.1).

For an order it builds the robot, has the admin record it, waits, and ships. For a read it looks into the
customer records itself, whatever this factory's role is, and never into the log. Everything that touches log
and map runs on one thread, a step at a time: that is their synchronisation (1.2).
"""

from typing import Protocol

from viewstamp.services.records import UPDATE, CustomerRecord, MapOp
from viewstamp_labs.cs6650.messages import CustomerRequest, RequestType, RobotInfo
from viewstamp_labs.cs6650.stubs import ServerStub


class Admin(Protocol):
    """What an engineer needs of its factory's admin."""

    def request_update(self, operation: MapOp, engineer: "Engineer") -> None:
        """Record an operation; `engineer.recorded` or `engineer.not_recorded` follows, perhaps at once."""
        ...


class Records(Protocol):
    """What an engineer needs of the customer records."""

    def read(self, customer_id: int) -> CustomerRecord:
        """Return a record, or the one that says that there is none."""
        ...


class Desk(Protocol):
    """The connection at which an engineer sits."""

    def work_soon(self) -> None:
        """Have the engineer go on with what has come, but not now."""
        ...

    def hang_up(self) -> None:
        """Close the connection."""
        ...


class Engineer:
    """The engineer at one customer's connection."""

    __slots__ = ("_admin", "_desk", "_engineer_id", "_order", "_records", "_stub")

    def __init__(
        self,
        engineer_id: int,
        stub: ServerStub,
        records: Records,
        admin: Admin,
        desk: Desk,
    ) -> None:
        self._engineer_id = engineer_id
        self._stub = stub
        self._records = records
        self._admin = admin
        self._desk = desk
        self._order: CustomerRequest | None = None
        """The order that the admin is recording: until it has, the customer's next request waits."""

    def work(self) -> None:
        """Take the customer's requests, as far as they have come.

        Raises:
            ProtocolViolation: the customer asks for what cannot be.
        """
        while self._order is None:
            request = self._stub.receive_request()
            if request is None:
                return
            if request.request_type == RequestType.READ:
                self._stub.return_record(self._records.read(request.customer_id))
            else:
                self._order = request
                operation = MapOp(UPDATE, request.customer_id, request.order_number)
                self._admin.request_update(operation, self)

    def recorded(self, admin_id: int) -> None:
        """The admin has recorded the order: ship the robot."""
        order, self._order = self._order, None
        assert order is not None, "nothing was to be recorded"
        robot = RobotInfo(
            order.customer_id, order.order_number, order.request_type, self._engineer_id, admin_id
        )
        self._stub.ship_robot(robot)
        if len(self._stub.intake):
            self._desk.work_soon()

    def not_recorded(self) -> None:
        """Another factory produces now, and whether the order was carried out is unknown: hang up."""
        self._desk.hang_up()

    @property
    def is_waiting(self) -> bool:
        """Whether an order is being recorded."""
        return self._order is not None

    def gone(self) -> None:
        """The customer has left. An order that is being recorded is recorded all the same."""

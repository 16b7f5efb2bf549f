"""State machines that only the simulator uses: small, and with results that show a doubled command."""

from viewstamp.machine.state_machine import StateMachine, command, query


class Registers(StateMachine):
    """Registers with compare-and-set, as `models.Register` describes them; null until they are written."""

    values: dict[str, str] = {}  # noqa: RUF012  StateMachine copies the default for each instance

    @command
    def write(self, key: str, value: str) -> None:
        """Set the register."""
        self.values[key] = value

    @command
    def cas(self, key: str, expected: str | None, value: str) -> bool:
        """Set the register if it holds what is expected; tell whether it did."""
        if self.values.get(key) != expected:
            return False
        self.values[key] = value
        return True

    @query
    def read(self, key: str) -> str | None:
        """Return what the register holds."""
        return self.values.get(key)


class Tally(StateMachine):
    """Counters, as `models.CounterModel` describes them: a command executed twice shows for ever."""

    totals: dict[str, int] = {}  # noqa: RUF012  StateMachine copies the default for each instance

    @command
    def add(self, key: str, amount: int) -> int:
        """Add, and return the new value."""
        self.totals[key] = self.totals.get(key, 0) + amount
        return self.totals[key]

    @query
    def read(self, key: str) -> int:
        """Return the value."""
        return self.totals.get(key, 0)

"""The machines of the course's tests."""

from viewstamp.machine.state_machine import StateMachine, command, query


class Recorder(StateMachine):
    """Remembers every value in the order of execution: what the Raft tests' applier checks."""

    values: list[str] = []  # noqa: RUF012  StateMachine copies the default for each instance

    @command
    def record(self, value: str) -> int:
        self.values.append(value)
        return len(self.values)


class Counter(StateMachine):
    """The counter of the 4A tests. `dec` must never be executed: it shows in `decs`."""

    count: int = 0
    decs: int = 0

    @command
    def inc(self) -> int:
        self.count += 1
        return self.count

    @command
    def dec(self) -> int:
        self.decs += 1
        self.count -= 1
        return self.count

    @command
    def null(self) -> None:
        pass

    @query
    def read(self) -> int:
        return self.count

"""`viewstamp replay`: new code over an old log."""

from typing import Annotated

from cyclopts import Parameter

from viewstamp.backup.comparing import Replay
from viewstamp.backup.execution import Execution, entries_of
from viewstamp.cli.failures import DONE, REFUSED
from viewstamp.cli.output import printable
from viewstamp.cli.serve import load_machine
from viewstamp.cli.stream_files import nothing_executed
from viewstamp.cli.stream_places import KeyFile, Source, header_of, records_of


def replay(
    stream: Annotated[str, Parameter(help="A backup, or an exported log: a file or the URL of an object.")],
    machine: Annotated[str, Parameter(help="The new state machine, as MODULE:CLASS.")],
    /,
    *,
    against: Annotated[str | None, Parameter(help="The old one, as MODULE:CLASS.")] = None,
    base: Annotated[
        str | None, Parameter(name="--from", help="A backup to begin with, where the stream has none.")
    ] = None,
    allow: Annotated[
        tuple[str, ...], Parameter(negative="", help="A method whose results may differ; may be repeated.")
    ] = (),
    until_first: Annotated[bool, Parameter(negative="", help="Stop at the first difference.")] = False,
    growing: Annotated[bool, Parameter(negative="", help="Accept a stream without an end.")] = False,
    identity: KeyFile = None,
) -> int:
    """Execute a recorded log with new code, and name the first entry at which it does something else.

    With --against both classes execute everything: results, exceptions and states are compared. Without it
    the results are compared with the digests in the stream. Exit code 1 if anything differs.
    """
    source, begin = Source(stream, identity), None if base is None else Source(base, identity)
    executions = _executions(machine, against, header_of(begin or source).limits)
    replaying = Replay(*executions, allow=allow, until_first=until_first)
    if begin is not None:
        for entry in entries_of(records_of(begin), *executions):
            for execution in executions:
                execution.execute(entry)
    report = replaying.run(records_of(source, growing=growing))
    if not report.entries:
        print(nothing_executed(header_of(source)))
        return DONE
    for line in report.lines():
        print(printable(line))
    return DONE if report.first is None else REFUSED


def _executions(machine: str, against: str | None, limits: dict[str, int]) -> list[Execution]:
    names = [machine] if against is None else [machine, against]
    return [Execution(load_machine(name), limits) for name in names]

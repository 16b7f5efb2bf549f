"""For tests of your own class: the streams that you keep must come to the same results.

`viewstamp.testing` offers it as a function and as the fixture `viewstamp_replays`.
"""

from collections.abc import Iterator
from glob import glob
from pathlib import Path

from viewstamp.backup.comparing import Replay
from viewstamp.backup.execution import Execution, NotReproduced
from viewstamp.core.errors import ConfigurationError
from viewstamp.machine.state_machine import StateMachine
from viewstamp.stream.decoder import READ_BYTES, read_records
from viewstamp.stream.records import Header, StreamDamaged


def replays(
    pattern: str | Path,
    machine: type[StateMachine],
    *,
    against: type[StateMachine] | None = None,
    allow: tuple[str, ...] = (),
) -> int:
    """Replay each stream whose name fits the pattern, and return how many entries were executed.

    `against` and `allow` as in `viewstamp replay`.

    Raises:
        AssertionError: a result differs, or a stream cannot be replayed; the file and the entry are named.
        ConfigurationError: no file fits the pattern: such a test would pass without looking at anything.
    """
    paths = sorted(Path(name) for name in glob(str(pattern), recursive=True))  # noqa: PTH207  it may be absolute
    if not paths:
        raise ConfigurationError(f"no stream fits {str(pattern)!r}: nothing was replayed")
    return sum(_replay(path, machine, against, allow) for path in paths)


def _replay(
    path: Path, machine: type[StateMachine], against: type[StateMachine] | None, allow: tuple[str, ...]
) -> int:
    try:
        header = _header(path)
        classes = [machine] if against is None else [machine, against]
        replay = Replay(*(Execution(each, header.limits) for each in classes), allow=allow, until_first=True)
        report = replay.run(read_records(_pieces(path)))
    except (StreamDamaged, NotReproduced) as error:
        raise AssertionError(f"{path}: {error}") from error
    if report.first is not None:
        raise AssertionError(f"{path}: {report.first}")
    return report.entries


def _header(path: Path) -> Header:
    header = next(read_records(_pieces(path), growing=True), None)
    if not isinstance(header, Header):
        raise StreamDamaged("it has no header")
    return header


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(READ_BYTES):
            yield piece

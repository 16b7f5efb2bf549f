"""What the flags of the quick commands are called and mean, without importing the library that parses them.

Most of the time that a small command takes to start is the import of that library. A command in `QUICK`
therefore describes its flags by `Flag`: `quick` understands plain calls of it, and for everything else (help,
mistakes, the environment) `surface` turns the same description into the library's own terms.
"""

from pathlib import Path
from typing import Annotated, Final, NamedTuple, TypeAlias


class Flag(NamedTuple):
    """What `Annotated` says of a parameter of a quick command."""

    help: str
    may_begin_with_hyphen: bool = False


ClusterFile: TypeAlias = Annotated[Path, Flag("Cluster file.")]
Servers: TypeAlias = Annotated[str | None, Flag("HOST:PORT,... of members, instead of a file.")]
Timeout: TypeAlias = Annotated[float, Flag("Seconds until a call is given up.")]
AsJson: TypeAlias = Annotated[bool, Flag("Print JSON.")]

QUICK: Final = frozenset(
    {
        *("kv get", "kv put", "kv delete", "kv range"),
        *("status", "transfer", "snapshot", "journal dump"),
        *(f"member {verb}" for verb in ("list", "add", "promote", "remove", "replace", "move")),
    }
)
"""Commands of which neither the module nor what it imports needs the command-line library."""

"""The protocols by name. The one place that knows them all; each is imported when it is first asked for."""

from importlib import import_module
from types import ModuleType
from typing import Final

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.protocol import ProtocolDefinition

PROTOCOL_NAMES: Final = ("raft", "viewstamped", "primary_backup")
"""Those that a cluster may be configured with. Each is a package that exports `DEFINITION`."""
LABORATORY_NAMES: Final = ("primary_backup_course",)
"""Those that only a course's programs, tests and the simulator run: they promise too little to serve."""


def protocol_definition(name: str) -> ProtocolDefinition:
    """Return the protocol of this name, one for laboratories included.

    Raises:
        ConfigurationError: there is none; the message names those that there are.
    """
    if name not in (*PROTOCOL_NAMES, *LABORATORY_NAMES):
        raise ConfigurationError(f"no protocol is called {name!r}: choose one of {', '.join(PROTOCOL_NAMES)}")
    if name == "primary_backup_course":
        definition = import_module("viewstamp.protocols.primary_backup").COURSE
    else:
        definition = import_module(f"viewstamp.protocols.{name}").DEFINITION
    assert isinstance(definition, ProtocolDefinition)
    return definition


def journal_of(name: str) -> ModuleType:
    """Return the `journal` module of a protocol: `decode_record`, and `read_stored_log` where it keeps a log.

    Raises:
        ConfigurationError: there is no such protocol.
    """
    protocol_definition(name)
    folder = "primary_backup.course" if name in LABORATORY_NAMES else name
    return import_module(f"viewstamp.protocols.{folder}.journal")

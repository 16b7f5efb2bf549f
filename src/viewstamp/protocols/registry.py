"""The protocols by name. The one place that knows them all; each is imported when it is first asked for."""

from importlib import import_module
from typing import Final

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.protocol import ProtocolDefinition

PROTOCOL_NAMES: Final = ("raft", "viewstamped")


def protocol_definition(name: str) -> ProtocolDefinition:
    """Return the protocol of this name, which is the name of its package and exports `DEFINITION`.

    Raises:
        ConfigurationError: there is none; the message names those that there are.
    """
    if name not in PROTOCOL_NAMES:
        raise ConfigurationError(f"no protocol is called {name!r}: choose one of {', '.join(PROTOCOL_NAMES)}")
    definition = import_module(f"viewstamp.protocols.{name}").DEFINITION
    assert isinstance(definition, ProtocolDefinition)
    return definition

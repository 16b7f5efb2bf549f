"""The registry of protocols, and what every registered protocol offers."""

import msgspec
import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.protocols.registry import PROTOCOL_NAMES, protocol_definition


def test_unknown_protocol_is_refused_by_naming_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no protocol is called 'zab': choose one of raft, v"):
        protocol_definition("zab")


@pytest.mark.parametrize("name", PROTOCOL_NAMES)
def test_registered_protocol_has_defaults_for_every_option(name: str) -> None:
    definition = protocol_definition(name)
    assert definition.name == name
    assert isinstance(definition.options_type(), msgspec.Struct)
    msgspec.msgpack.Decoder(definition.message_type)

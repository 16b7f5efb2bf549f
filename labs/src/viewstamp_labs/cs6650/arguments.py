"""The command lines of the server and the client (1.3 and 2.1.1). Whatever is wrong is told in one line."""

from collections.abc import Sequence
from typing import Final

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.ids import NodeId
from viewstamp.runtime.addresses import LOOPBACK, Address, check_address, format_address
from viewstamp.services.records import INTEGER_MAX

SERVER_USAGE: Final = "server [--loopback] PORT ID PEERS (ID IP PORT)*"
CLIENT_USAGE: Final = "client IP PORT CUSTOMERS ORDERS TYPE"
AUDIT_USAGE: Final = "audit IP PORT"
CUSTOMERS_MAX: Final = 20_000
"""More connections than this have no ports on one machine."""
LOOPBACK_FLAG: Final = "--loopback"
"""Only this machine's programs reach the server; without it every interface listens."""

_FIXED_SERVER_ARGUMENTS: Final = 3
_ARGUMENTS_A_PEER: Final = 3
_CLIENT_ARGUMENTS: Final = 5
_AUDIT_ARGUMENTS: Final = 2
_SCAN: Final = 3


class ServerArguments(msgspec.Struct, frozen=True):
    """What a factory is told when it starts."""

    port: int
    factory_id: NodeId
    peers: dict[NodeId, Address]
    host: str | None = None
    """Where to listen; None: on every interface, or as the environment says."""


class ClientArguments(msgspec.Struct, frozen=True):
    """What a client program is told when it starts."""

    server: Address
    customers: int
    orders: int
    """Of each customer; for type 3 the highest customer id that is read."""
    request_type: int
    """1: order; 2: read the own record; 3: print all records."""


def parse_server_arguments(words: Sequence[str]) -> ServerArguments:
    """Return what the words say.

    Raises:
        ConfigurationError: they are too few or too many, one is not what it should be, or two factories
            share an id or an address.
    """
    host = LOOPBACK if list(words[:1]) == [LOOPBACK_FLAG] else None
    if host is not None:
        words = words[1:]
    if len(words) < _FIXED_SERVER_ARGUMENTS:
        raise ConfigurationError(f"{len(words)} arguments are too few: {SERVER_USAGE}")
    port = _port(words[0])
    factory_id = NodeId(_integer(words[1], "ID", 0, INTEGER_MAX))
    count = _integer(words[2], "PEERS", 0, INTEGER_MAX)
    rest = words[_FIXED_SERVER_ARGUMENTS:]
    if len(rest) != count * _ARGUMENTS_A_PEER:
        raise ConfigurationError(
            f"{count} peers need {count * _ARGUMENTS_A_PEER} more arguments, not {len(rest)}: {SERVER_USAGE}"
        )
    triples = [rest[start : start + _ARGUMENTS_A_PEER] for start in range(0, len(rest), _ARGUMENTS_A_PEER)]
    return ServerArguments(port, factory_id, _peers(factory_id, triples), host)


def _peers(factory_id: NodeId, triples: Sequence[Sequence[str]]) -> dict[NodeId, Address]:
    peers: dict[NodeId, Address] = {}
    addresses = set()
    for identity, host, port in triples:
        peer = NodeId(_integer(identity, "ID", 0, INTEGER_MAX))
        if peer == factory_id or peer in peers:
            raise ConfigurationError(f"two factories have the id {peer}: each needs its own")
        address = check_address(host, _port(port))
        if address in addresses:
            raise ConfigurationError(f"two peers have the address {format_address(address)}")
        peers[peer] = address
        addresses.add(address)
    return peers


def parse_client_arguments(words: Sequence[str]) -> ClientArguments:
    """Return what the words say.

    Raises:
        ConfigurationError: they are too few or too many, or one is not what it should be.
    """
    if len(words) != _CLIENT_ARGUMENTS:
        raise ConfigurationError(f"{len(words)} arguments, not {_CLIENT_ARGUMENTS}: {CLIENT_USAGE}")
    host, port, customers, orders, request_type = words
    return ClientArguments(
        server=check_address(host, _port(port)),
        customers=_integer(customers, "CUSTOMERS", 1, CUSTOMERS_MAX),
        orders=_integer(orders, "ORDERS", 0, INTEGER_MAX),
        request_type=_integer(request_type, "TYPE", 1, _SCAN),
    )


def parse_audit_arguments(words: Sequence[str]) -> Address:
    """Return the server's address.

    Raises:
        ConfigurationError: the words are not an address.
    """
    if len(words) != _AUDIT_ARGUMENTS:
        raise ConfigurationError(f"{len(words)} arguments, not {_AUDIT_ARGUMENTS}: {AUDIT_USAGE}")
    return check_address(words[0], _port(words[1]))


def _port(word: str) -> int:
    return _integer(word, "PORT", 1, 65535)


def _integer(word: str, name: str, least: int, most: int) -> int:
    if not word.isascii() or not word.lstrip("-").isdigit() or len(word) > len(str(most)) + 1:
        raise ConfigurationError(f"{name} is {word[:40]!r}: give a number from {least} to {most}")
    try:
        value = int(word)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise ConfigurationError(f"{name} is {word}: give a number from {least} to {most}")
    return value

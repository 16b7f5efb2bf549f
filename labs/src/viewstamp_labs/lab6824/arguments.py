"""Ports as the courses' programs take them: `PORT` or `HOST:PORT`."""

from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.addresses import LOOPBACK, PORT_MAX, Address, parse_address

EXIT_USAGE = 1
LIFETIME_S = 20 * 60
"""After this a program of the course ends by itself: a test that was stopped leaves nothing behind."""


def parse_port(text: str) -> int:
    """Return a node's port; the one above it must be free for its test port.

    Raises:
        ConfigurationError: it is none.
    """
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) < PORT_MAX:
        raise ConfigurationError(f"port {text[:20]!r}: give a number from 1 to {PORT_MAX - 1}")
    return int(text)


def parse_server(text: str) -> Address:
    """Return the address of a server, on this machine where only its port is given.

    Raises:
        ConfigurationError: it is none.
    """
    return parse_address(text if ":" in text else f"{LOOPBACK}:{text}")

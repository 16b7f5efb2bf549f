"""Which event loop: uvloop where it is installed, the standard one otherwise. Never required."""

import asyncio
from collections.abc import Callable
from importlib.util import find_spec

from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.config import Loop


def loop_factory(choice: Loop) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the loop.

    Raises:
        ConfigurationError: uvloop was asked for and is not installed.
    """
    if choice == "asyncio":
        return asyncio.new_event_loop
    if find_spec("uvloop") is None:
        if choice == "uvloop":
            raise ConfigurationError("uvloop is not installed: pip install 'viewstamp[speed]'")
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop

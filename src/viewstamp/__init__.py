"""Write an ordinary deterministic class; run it on several machines as one object that does not fail."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from viewstamp.clients.coordination import coordination
    from viewstamp.clients.coordination_blocking import coordination_blocking
    from viewstamp.clients.recipes import Recipes
    from viewstamp.clients.recipes_blocking import BlockingRecipes
    from viewstamp.core.errors import (
        CommandFailed,
        ConfigurationError,
        InvalidCall,
        NotExecuted,
        OutcomeUnknown,
        SessionExpired,
        ViewstampError,
    )
    from viewstamp.machine.evolution import migration
    from viewstamp.machine.state_machine import Context, StateMachine, command, compose, query
    from viewstamp.runtime.config import TlsFiles
    from viewstamp.runtime.connecting import close, connect, connect_blocking
    from viewstamp.runtime.local import local_cluster
    from viewstamp.runtime.proxies import with_options

__all__ = [
    "BlockingRecipes",
    "CommandFailed",
    "ConfigurationError",
    "Context",
    "InvalidCall",
    "NotExecuted",
    "OutcomeUnknown",
    "PermissionDenied",
    "Recipes",
    "SessionExpired",
    "StateMachine",
    "TlsFiles",
    "ViewstampError",
    "close",
    "command",
    "compose",
    "connect",
    "connect_blocking",
    "coordination",
    "coordination_blocking",
    "local_cluster",
    "migration",
    "query",
    "with_options",
]

_LATE = {
    "BlockingRecipes": "viewstamp.clients.recipes_blocking",
    "Recipes": "viewstamp.clients.recipes",
    "CommandFailed": "viewstamp.core.errors",
    "ConfigurationError": "viewstamp.core.errors",
    "Context": "viewstamp.machine.state_machine",
    "InvalidCall": "viewstamp.core.errors",
    "NotExecuted": "viewstamp.core.errors",
    "OutcomeUnknown": "viewstamp.core.errors",
    "PermissionDenied": "viewstamp.core.errors",
    "SessionExpired": "viewstamp.core.errors",
    "StateMachine": "viewstamp.machine.state_machine",
    "TlsFiles": "viewstamp.runtime.config",
    "ViewstampError": "viewstamp.core.errors",
    "close": "viewstamp.runtime.connecting",
    "command": "viewstamp.machine.state_machine",
    "compose": "viewstamp.machine.state_machine",
    "connect": "viewstamp.runtime.connecting",
    "connect_blocking": "viewstamp.runtime.connecting",
    "coordination": "viewstamp.clients.coordination",
    "coordination_blocking": "viewstamp.clients.coordination_blocking",
    "local_cluster": "viewstamp.runtime.local",
    "migration": "viewstamp.machine.evolution",
    "query": "viewstamp.machine.state_machine",
    "with_options": "viewstamp.runtime.proxies",
}
"""Imported when they are first used, so that a machine's module can be imported without sockets and loops."""


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _LATE:
        raise AttributeError(f"module 'viewstamp' has no attribute {name!r}")
    value = getattr(import_module(_LATE[name]), name)
    globals()[name] = value
    return value

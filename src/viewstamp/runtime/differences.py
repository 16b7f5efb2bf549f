"""What members that meet find to differ, and what may differ for a while: logged once, and again when new.

Options may differ while they are changed, and so may the code of the class. What must not differ is refused
by the handshake (`link.handshake`).

Another fingerprint of the user's class means that two members run other code. It is made of the source of
the class, of its parts and of the classes that it is derived from, and of the schema of its state. What the
class calls in other modules is not in it.
"""

import inspect
import logging
from collections.abc import Iterator
from typing import Final

import msgspec
import xxhash

from viewstamp.core.ids import NodeId
from viewstamp.link.handshake import Doorkeeper, ServedClass
from viewstamp.machine.evolution import version_of
from viewstamp.machine.interface import code_of, interface_digest, own_interface
from viewstamp.machine.schema import schema_of
from viewstamp.machine.state_machine import StateMachine
from viewstamp.storage.identity import Service

LOG: Final = logging.getLogger("viewstamp.runtime")
UNKNOWN: Final = 0
"""Where the source cannot be read: it is compared with nothing."""
_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")


class Differences:
    """The members of which the log says that they run with other options, code or grants than this node."""

    __slots__ = ("_doorkeeper", "_machine", "_node", "_of_class", "_of_grants", "_of_options")

    def __init__(self, doorkeeper: Doorkeeper, node: NodeId, machine: str) -> None:
        """`machine` is the name of the class that is served."""
        self._doorkeeper = doorkeeper
        self._node = node
        self._machine = machine
        self._of_options: set[NodeId] = set()
        self._of_class: set[NodeId] = set()
        self._of_grants: set[NodeId] = set()

    def compare(self, peer: NodeId) -> None:
        """Log what has become different since this was last called for the member."""
        if _is_new(peer, self._doorkeeper.differing, self._of_options):
            LOG.warning(
                "node %d runs with other options than node %d: make their cluster files equal, and restart "
                "the one with the older file",
                peer,
                self._node,
            )
        if _is_new(peer, self._doorkeeper.other_class, self._of_class):
            LOG.warning(
                "node %d runs other code of %s than node %d under the same version (their fingerprints "
                "differ): where commands do something else, replicas will stop: raise the class's version",
                peer,
                self._machine,
                self._node,
            )
        if _is_new(peer, self._doorkeeper.other_grants, self._of_grants):
            LOG.warning(
                "node %d permits other calls than node %d (their [[grants]] differ): what a client may do "
                "depends on the node that it reaches until their cluster files are equal",
                peer,
                self._node,
            )


def _is_new(peer: NodeId, found: set[NodeId], said: set[NodeId]) -> bool:
    if peer not in found:
        said.discard(peer)
        return False
    is_new = peer not in said
    said.add(peer)
    return is_new


def fingerprint_of(machine: type[StateMachine]) -> int:
    """Return 63 bits that differ where the class does; `UNKNOWN` where its source cannot be read."""
    try:
        sources = [inspect.getsource(cls) for cls in _classes(machine)]
    except (OSError, TypeError):
        return UNKNOWN
    return xxhash.xxh3_64_intdigest(_ENCODER.encode((sources, schema_of(machine)))) >> 1 or 1


def served_class(machine: type[StateMachine]) -> ServedClass:
    """Return what other members are told of this class."""
    interface = interface_digest(own_interface(machine))
    return ServedClass(machine.__name__, version_of(machine), fingerprint_of(machine), interface)


def service_of(protocol: str, machine: type[StateMachine]) -> Service:
    """Return what a data directory records of what runs on it."""
    return Service(protocol, machine.__name__, schema_of(machine), version_of(machine), code_of(machine))


def _classes(machine: type[StateMachine]) -> Iterator[type]:
    """Yield the classes that decide what the machine does, the library's own excepted."""
    if machine.parts:
        for _, part in sorted(machine.parts.items()):
            yield from _classes(part)
        return
    for cls in machine.__mro__:
        if cls is not StateMachine and cls is not object and issubclass(cls, StateMachine):
            yield cls

"""The digest of a machine's state, equal on all replicas whose states are equal, in whatever process.

It is made of the annotated attributes. The order inside a dict counts, unless sets are near it: their order
differs from process to process, so they are sorted, and the dict with them. A class that saves itself is not
looked into: its snapshot may hold what differs between processes without any harm, such as a set's order.
"""

from collections.abc import Iterable, Iterator
from operator import itemgetter

import xxhash

from viewstamp.machine.canonical import sorting_encoder_of
from viewstamp.machine.evolution import REMOVED
from viewstamp.machine.state_machine import StateMachine, annotated_state, saves_itself


def digest_pieces(machine: StateMachine) -> Iterator[bytes]:
    """Yield what the digest is made of, while it is consumed; one attribute at a time."""
    if "machines" in vars(machine):
        parts: dict[str, StateMachine] = vars(machine)["machines"]
        for name, part in parts.items():
            yield name.encode()
            yield from digest_pieces(part)
    elif not saves_itself(type(machine)):
        for name, hint in sorted(annotated_state(type(machine)).items(), key=itemgetter(0)):
            if getattr(machine, name) is not REMOVED:
                yield sorting_encoder_of(hint).encode((name, getattr(machine, name)))


def digest_of_pieces(pieces: Iterable[bytes]) -> int:
    """Return the digest of these pieces."""
    digest = xxhash.xxh3_64()
    for piece in pieces:
        digest.update(piece)
    return digest.intdigest()

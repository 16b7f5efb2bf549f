"""A grammar of frames as an adversary sends them: valid, nearly valid, again, cut off, damaged, too deep.

Every frame has a name that says what is wrong with it, so a failure names its cause. The same seed makes the
same frames. What a frame must never do, whatever it holds: end a node, change its state in another way than
its peers' states, or keep it from its other clients (docs/faults.md).
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Final, NamedTuple, get_args

import msgspec

from viewstamp.core.messages import ClientMessage, ServerMessage
from viewstamp.link.framing import CLIENT, HEADER_BYTES, PEER, SERVER, encode_frame
from viewstamp.link.handshake import Hello
from viewstamp.machine.definition import MachineDefinition
from viewstamp.machine.state_machine import StateMachine
from viewstamp.sim.workloads.hostile_values import (
    HOSTILE,
    Facts,
    Tree,
    Values,
    encode_tree,
    nested_arrays,
    nested_maps,
    places,
    replaced,
)

REMEMBERED_MAX: Final = 64
"""Frames that may be sent again."""
NESTED_MAX: Final = 1_100


class Frame(NamedTuple):
    """What is sent, and what it is called."""

    name: str
    data: bytes
    """The whole frame: a header, and a payload that may not be what the header says."""

    @property
    def payload(self) -> bytes:
        """What follows the header."""
        return self.data[HEADER_BYTES:]


def members_of(union: Any) -> tuple[type[msgspec.Struct], ...]:
    """Return the types of messages in a union; a single type is a union of one."""
    inner = get_args(union)
    return tuple(kind for each in inner for kind in members_of(each)) if inner else (union,)


class Grammar:
    """Frames of one kind and one union of messages."""

    def __init__(self, seed: int, kind: int, union: Any, *, facts: Facts | None = None) -> None:
        self._rng = Random(seed)  # noqa: S311  a test's dice
        self._kind = kind
        self.kinds = members_of(union)
        self.values = Values(self._rng, {} if facts is None else facts)
        self._sent: list[Frame] = []
        self._makers: Sequence[Callable[[], Frame]] = (
            self.valid,
            self.valid,
            self.again,
            self.nearly,
            self.nearly,
            self.cut_off,
            self.damaged,
        )

    def frames(self, count: int) -> Iterator[Frame]:
        """Yield a mixture of everything."""
        for _ in range(count):
            yield self.next()

    def next(self) -> Frame:
        """Return another frame of the mixture."""
        return self._rng.choice(self._makers)()

    def valid(self, kind: type[msgspec.Struct] | None = None) -> Frame:
        """Return a frame that any server can read, of a message that may make no sense now."""
        name, tree = self._tree(kind)
        return self._remember(Frame(name, encode_frame(self._kind, encode_tree(tree))))

    def again(self) -> Frame:
        """Return a frame that was sent before."""
        if not self._sent:
            return self.valid()
        before = self._rng.choice(self._sent)
        return before if before.name.startswith("again") else Frame(f"again {before.name}", before.data)

    def nearly(self, kind: type[msgspec.Struct] | None = None) -> Frame:
        """Return a frame with one thing wrong in its payload."""
        name, tree = self._tree(kind)
        fault = self._rng.choice(
            (self._replaced, self._missing, self._extra, self._nested, self._bytes_wrong)
        )
        what, payload = fault(tree)
        return self._remember(Frame(f"{name}: {what}", encode_frame(self._kind, payload)))

    def cut_off(self) -> Frame:
        """Return a frame whose payload ends early, and whose header says so."""
        name, tree = self._tree(None)
        payload = encode_tree(tree)
        kept = self._rng.randrange(len(payload))
        return Frame(f"{name}: the first {kept} bytes", encode_frame(self._kind, payload[:kept]))

    def damaged(self) -> Frame:
        """Return a frame whose header or payload was changed after it was made."""
        frame = self.valid()
        place, bit = self._rng.randrange(len(frame.data)), self._rng.randrange(8)
        if place in range(4, 8):  # its length: the server would wait for the rest, which is another attack
            place = 0
        data = bytearray(frame.data)
        data[place] ^= 1 << bit
        return Frame(f"{frame.name}: bit {bit} of byte {place}", bytes(data))

    def every_fault(self) -> Iterator[Frame]:
        """Yield each hostile value at each place of each message: the systematic part."""
        for kind in self.kinds:
            name, tree = self._tree(kind)
            yield Frame(name, encode_frame(self._kind, encode_tree(tree)))
            for path in [(), *places(tree)]:
                for what, value in HOSTILE.items():
                    payload = encode_tree(replaced(tree, path, msgspec.Raw(value)))
                    yield Frame(f"{name}{_shown(path)}: {what}", encode_frame(self._kind, payload))
            yield from self.every_depth(kind, (1, 31, 32, 33, 150, 500, 900, *range(960, 1_010, 3), 1_100))

    def every_depth(self, kind: type[msgspec.Struct], depths: Sequence[int] | range) -> Iterator[Frame]:
        """Yield one message with an unknown field at its end, nested to each of these depths."""
        name, tree = self._tree(kind)
        for depth in depths:
            for what, nest in (("arrays", nested_arrays), ("maps", nested_maps)):
                payload = encode_tree([*tree, msgspec.Raw(nest(depth))])
                yield Frame(f"{name}: an unknown field of {depth} {what}", encode_frame(self._kind, payload))

    def _tree(self, kind: type[msgspec.Struct] | None) -> tuple[str, Tree]:
        kind = kind or self._rng.choice(self.kinds)
        return kind.__name__, self.values.of(kind)

    def _remember(self, frame: Frame) -> Frame:
        if len(self._sent) < REMEMBERED_MAX:
            self._sent.append(frame)
        else:
            self._sent[self._rng.randrange(REMEMBERED_MAX)] = frame
        return frame

    def _replaced(self, tree: Tree) -> tuple[str, bytes]:
        path = self._rng.choice(list(places(tree)) or [()])
        what = self._rng.choice(list(HOSTILE))
        return f"{_shown(path)} is {what}", encode_tree(replaced(tree, path, msgspec.Raw(HOSTILE[what])))

    def _missing(self, tree: Tree) -> tuple[str, bytes]:
        place = self._rng.randrange(len(tree))
        return f"field {place} is missing", encode_tree([*tree[:place], *tree[place + 1 :]])

    def _extra(self, tree: Tree) -> tuple[str, bytes]:
        what = self._rng.choice(list(HOSTILE))
        return f"an unknown field, {what}", encode_tree([*tree, msgspec.Raw(HOSTILE[what])])

    def _nested(self, tree: Tree) -> tuple[str, bytes]:
        depth = self._rng.randint(1, NESTED_MAX)
        nest = self._rng.choice((nested_arrays, nested_maps))
        return f"an unknown field, {nest.__name__}({depth})", encode_tree([*tree, msgspec.Raw(nest(depth))])

    def _bytes_wrong(self, tree: Tree) -> tuple[str, bytes]:
        payload = encode_tree(tree)
        wrong = {
            "twice in one frame": payload + payload,
            "one byte more": payload + b"\xc0",
            "nothing": b"",
            "another tag": encode_tree([self._rng.choice((0, 255, -1, 2**40, "x")), *tree[1:]]),
            "its header in a long form": b"\xdd" + len(tree).to_bytes(4, "big") + payload[1:],
            "its header says one more": bytes((payload[0] + 1,)) + payload[1:],
        }
        what = self._rng.choice(list(wrong))
        return what, wrong[what]


def _shown(path: Sequence[object]) -> str:
    return "".join(f"[{key}]" for key in path)


class CallGrammar(Grammar):
    """Frames of clients, whose calls are those of a machine, or nearly."""

    def __init__(self, seed: int, machine: type[StateMachine], *, facts: Facts | None = None) -> None:
        super().__init__(seed, CLIENT, ClientMessage, facts=facts)
        self._methods = tuple(MachineDefinition.of(machine).methods.values())

    def call(self) -> Tree:
        """Return a call that fits the machine, most times, as a tree."""
        tree = self.values.of(self._rng.choice(self._methods).arguments)
        if self._rng.random() < 0.7:
            return tree
        path = self._rng.choice(list(places(tree)))
        return replaced(tree, path, msgspec.Raw(HOSTILE[self._rng.choice(list(HOSTILE))]))

    def _tree(self, kind: type[msgspec.Struct] | None) -> tuple[str, Tree]:
        name, tree = super()._tree(kind)
        for place, value in enumerate(tree):
            if isinstance(value, list) and all(type(each) is list and len(each) == 2 for each in value):
                tree[place] = [[sequence, self.call()] for sequence, _ in value]
        return name, tree


def server_grammar(seed: int) -> Grammar:
    """Return frames as a hostile server sends them to a client."""
    return Grammar(seed, SERVER, ServerMessage)


def peer_grammar(seed: int, message_type: Any, *, facts: Facts | None = None) -> Grammar:
    """Return frames as a hostile member sends them (`ProtocolDefinition.message_type`)."""
    return Grammar(seed, PEER, message_type, facts=facts)


def hello_grammar(seed: int, kind: int) -> Grammar:
    """Return the first frames of a connection, nearly right."""
    return Grammar(seed, kind, Hello)

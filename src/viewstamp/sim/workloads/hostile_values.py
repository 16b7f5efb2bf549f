"""Values that fit a type, and values that fit none: the words of the grammar in `hostile_frames`.

What fits is made from the type itself (`msgspec.inspect`), so a message that is added tomorrow is attacked
tomorrow. A value stays a tree of lists, dicts and scalars until it is encoded, so that one node of it can be
replaced; what the encoder would never write stands in the tree as `msgspec.Raw`.
"""

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import inspect as types

from viewstamp.core.ids import LEVEL
from viewstamp.core.snapshots import FORMAT, SnapshotMeta

Tree: TypeAlias = Any
"""Lists, dicts, scalars and `msgspec.Raw`."""
Facts: TypeAlias = Mapping[str, Sequence[object]]
"""By the name of a field: values that mean something to the server, such as a living session's number."""

_encode: Final = msgspec.msgpack.Encoder().encode
_INTEGERS: Final = (0, 1, 2, 3, 7, 1_000, 1 << 20, (1 << 31) - 1, 1 << 32, (1 << 63) - 1)
_TEXTS: Final = ("", "a", "k1", "k2", "x" * 40, "ключ", "\x00", "\U0001f512" * 3)
_BYTES: Final = (b"", b"v", b"\x00" * 8, b"\xff" * 33, bytes(range(256)))
_ITEMS_MAX: Final = 3
_DEEP_ENOUGH: Final = 6


def nested_arrays(depth: int) -> bytes:
    """Return nil inside this many arrays."""
    return b"\x91" * depth + b"\xc0"


def nested_maps(depth: int) -> bytes:
    """Return nil inside this many maps, each of one key."""
    return b"\x81\x01" * depth + b"\xc0"


HOSTILE: Final[Mapping[str, bytes]] = {
    "minus one": b"\xff",
    "2**31": b"\xce\x80\x00\x00\x00",
    "2**63 - 1": b"\xcf\x7f" + b"\xff" * 7,
    "2**63": b"\xcf\x80" + bytes(7),
    "2**64 - 1": b"\xcf" + b"\xff" * 8,
    "-2**63": b"\xd3\x80" + bytes(7),
    "one in nine bytes": b"\xd3" + bytes(7) + b"\x01",
    "nil": b"\xc0",
    "true": b"\xc3",
    "not a number": b"\xcb\x7f\xf8" + bytes(6),
    "infinity": b"\xcb\x7f\xf0" + bytes(6),
    "half a character": b"\xa1\xff",
    "a text in a long form": b"\xdb\x00\x00\x00\x01a",
    "bytes": b"\xc4\x04\xff\xfe\x00\x01",
    "an extension": b"\xd4\x2a\x00",
    "a timestamp": b"\xd6\xff\x00\x00\x00\x01",
    "a code that nothing has": b"\xc1",
    "an array of 2**32 - 1": b"\xdd\xff\xff\xff\xff",
    "a map of 2**32 - 1": b"\xdf\xff\xff\xff\xff",
    "a text of 2**32 - 1": b"\xdb\xff\xff\xff\xff",
    "bytes of 2**31": b"\xc6\x80\x00\x00\x00",
    "equal keys": b"\x82\x01\x02\x01\x03",
    "an array as a key": b"\x81\x91\x01\x02",
    "an empty array": b"\x90",
    "an empty map": b"\x80",
    "an array in a long form": b"\xdd\x00\x00\x00\x01\x01",
    "ten thousand nils": b"\xdc\x27\x10" + b"\xc0" * 10_000,
    "64 KiB of text": b"\xda\xff\xff" + b"x" * 0xFFFF,
    "33 arrays": nested_arrays(33),
    "300 arrays": nested_arrays(300),
    "980 arrays": nested_arrays(980),
    "1100 arrays": nested_arrays(1_100),
    "980 maps": nested_maps(980),
    "100,000 arrays": nested_arrays(100_000),
}
"""By name: the encoded form of something that does not belong where it is put."""

_READABLE: Final = (FORMAT, LEVEL, 1)
"""The last fields of a `SnapshotMeta` that can be read."""


def encode_tree(tree: Tree) -> bytes:
    """Return the encoded form of a tree."""
    return _encode(tree)


class Values:
    """Makes values of types. Equal seeds and calls make equal values."""

    def __init__(self, rng: Random, facts: Facts) -> None:
        self._rng = rng
        self.facts = facts

    def of(self, kind: Any) -> Tree:
        """Return a value of a type, as a tree."""
        return self._make(types.type_info(kind), "", 0)

    def _make(self, info: types.Type, name: str, depth: int) -> Tree:
        known = self.facts.get(name)
        if known and self._rng.random() < 0.8:
            return self._rng.choice(known)
        if isinstance(info, types.StructType):
            return self._struct(info, depth)
        if isinstance(info, types.UnionType):
            return self._make(self._rng.choice(info.types), name, depth)
        return self._collection(info, name, depth) if _is_collection(info) else self._scalar(info)

    def _struct(self, info: types.StructType, depth: int) -> Tree:
        fields = [self._make(field.type, field.name, depth + 1) for field in info.fields]
        if info.cls is SnapshotMeta:  # its decoder refuses every other version
            fields[-len(_READABLE) :] = _READABLE
        if info.array_like:
            return fields if info.tag is None else [info.tag, *fields]
        names = [field.encode_name for field in info.fields]
        tree = dict(zip(names, fields, strict=True))
        return tree if info.tag is None else {info.tag_field: info.tag, **tree}

    def _collection(self, info: Any, name: str, depth: int) -> Tree:
        if isinstance(info, types.TupleType):
            return [
                self._make(item, f"{name}.{place}", depth + 1) for place, item in enumerate(info.item_types)
            ]
        fewest = getattr(info, "min_length", None) or 0
        count = fewest if depth >= _DEEP_ENOUGH else self._rng.randint(fewest, max(fewest, _ITEMS_MAX))
        if isinstance(info, types.DictType):
            pairs = range(count)
            return {
                self._make(info.key_type, "key", depth + 1): self._make(info.value_type, "", depth + 1)
                for _ in pairs
            }
        return [self._make(info.item_type, name, depth + 1) for _ in range(count)]

    def _scalar(self, info: types.Type) -> Tree:
        rng = self._rng
        if isinstance(info, types.IntType):
            drawn = rng.choice(_INTEGERS) if rng.random() < 0.5 else rng.randrange(1 << 16)
            return drawn if _is_within(info, drawn) else info.ge or 0
        if isinstance(info, types.LiteralType):
            return rng.choice(info.values)
        if isinstance(info, types.RawType | types.AnyType):
            return msgspec.Raw(_encode(rng.choice((None, 1, "a", [1, [2]], {"k": b"v"}))))
        made = {
            types.BoolType: rng.random() < 0.5,
            types.StrType: rng.choice(_TEXTS),
            types.BytesType: rng.choice(_BYTES),
            types.FloatType: rng.random(),
            types.NoneType: None,
        }
        return made[type(info)]


def _is_within(info: types.IntType, value: int) -> bool:
    """Return whether a type with limits takes this integer."""
    return not (
        (info.ge is not None and value < info.ge)
        or (info.gt is not None and value <= info.gt)
        or (info.le is not None and value > info.le)
        or (info.lt is not None and value >= info.lt)
    )


def _is_collection(info: types.Type) -> bool:
    collections = (types.CollectionType, types.TupleType, types.DictType)
    return isinstance(info, collections)


def places(tree: Tree, path: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Yield the path to every node of a tree below its root."""
    children: Iterator[tuple[object, Tree]] = iter(())
    if isinstance(tree, list):
        children = iter(enumerate(tree))
    elif isinstance(tree, dict):
        children = iter(tree.items())
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def replaced(tree: Tree, path: tuple[object, ...], value: Tree) -> Tree:
    """Return a copy of a tree whose node at `path` is `value`."""
    if not path:
        return value
    copy = tree.copy()
    copy[path[0]] = replaced(tree[path[0]], path[1:], value)
    return copy

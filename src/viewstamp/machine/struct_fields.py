"""Fields of structs in arguments that only one side of a call knows, client or server.

msgspec ignores a field that it does not know. A server of an older class would lose it without a word, so it
refuses the call (`unknown_finder`). A client leaves out the fields that are at their defaults (`trimmer`), so
that a newer class may be used towards older servers as long as nothing new is said.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec import inspect as kinds

from viewstamp.core.messages import UNREADABLE
from viewstamp.machine.canonical import sorted_bytes
from viewstamp.machine.type_kinds import types_in

Find = Callable[[Any], str]
"""Returns the name of a field, in a value as it came, that its type does not know; empty: none."""
Trim = Callable[[Any], Any]
_SCALARS: Final = frozenset((int, float, str, bytes, bool, type(None)))
_STRUCTS: Final = (kinds.StructType, kinds.DataclassType, kinds.TypedDictType)
_LISTS: Final = (kinds.ListType, kinds.SetType, kinds.FrozenSetType, kinds.VarTupleType)


def unknown_finder(arguments: type[msgspec.Struct]) -> Callable[[Any], str] | None:
    """Return what finds an unknown field in an encoded call of these arguments; None: there can be none."""
    known: dict[Any, _Fields] = {}
    finders = [_finder(kinds.type_info(field.type), known) for field in msgspec.structs.fields(arguments)]
    if not known:
        return None

    def find(payload: Any) -> str:
        try:
            values = msgspec.msgpack.decode(payload)[1:]
        except UNREADABLE:
            return ""
        found = (finder(value) for finder, value in zip(finders, values, strict=False) if finder is not None)
        return next(filter(None, found), "")

    return find


class _Fields:
    """Finds unknown fields of one struct, and in its fields."""

    def __init__(self, info: Any) -> None:
        self._info = info
        self._is_array = bool(getattr(info, "array_like", False))
        self._tag = getattr(info, "tag", None)
        self._tag_field = getattr(info, "tag_field", None) if self._tag is not None else None
        self._finders: dict[str, Find | None] = {}

    def read(self, known: dict[Any, "_Fields"]) -> None:
        for field in self._info.fields:
            self._finders[field.encode_name] = _finder(field.type, known)

    def fits(self, value: Any) -> bool:
        """Return whether a value may be one of this struct, as far as its tag says."""
        if self._is_array:
            return isinstance(value, list) and (self._tag is None or value[:1] == [self._tag])
        return isinstance(value, dict) and (self._tag is None or value.get(self._tag_field) == self._tag)

    def __call__(self, value: Any) -> str:
        if not self.fits(value):
            return ""
        if self._is_array:
            values = value[self._tag is not None :]
            if len(values) > len(self._finders):
                return f"{self._info.cls.__name__}[{len(self._finders)}]"
            pairs: Iterable[tuple[Find | None, Any]] = zip(self._finders.values(), values, strict=False)
        else:
            for name in value:
                if name not in self._finders and name != self._tag_field:
                    return f"{self._info.cls.__name__}.{name}"
            pairs = ((self._finders.get(name), item) for name, item in value.items())
        return next(filter(None, (find(item) for find, item in pairs if find is not None)), "")


def _finder(info: Any, known: dict[Any, _Fields]) -> Find | None:
    if isinstance(info, kinds.Metadata):
        return _finder(info.type, known)
    if isinstance(info, _STRUCTS):
        if info.cls not in known:
            known[info.cls] = _Fields(info)
            known[info.cls].read(known)
        return known[info.cls]
    if isinstance(info, _LISTS):
        return _each(_finder(info.item_type, known))
    if isinstance(info, kinds.DictType):
        values = _each(_finder(info.value_type, known))
        return None if values is None else lambda value: values([*value.values()])
    if isinstance(info, kinds.TupleType | kinds.NamedTupleType):
        fields: Iterable[Any] = getattr(info, "fields", ())
        inner = [field.type for field in fields] or list(getattr(info, "item_types", ()))
        return _by_place([_finder(each, known) for each in inner])
    if isinstance(info, kinds.UnionType):
        return _one_of([(_shape(each), _finder(each, known)) for each in info.types])
    return None


def _each(find: Find | None) -> Find | None:
    return None if find is None else lambda value: next(filter(None, map(find, value)), "")


def _by_place(finders: list[Find | None]) -> Find | None:
    if not any(finders):
        return None
    return lambda value: next(
        filter(None, (find(item) for find, item in zip(finders, value, strict=False) if find is not None)), ""
    )


def _shape(info: Any) -> type[Any]:
    if isinstance(info, kinds.DictType):
        return dict
    return list if isinstance(info, (*_LISTS, kinds.TupleType, kinds.NamedTupleType)) else object


def _one_of(members: list[tuple[type[Any], Find | None]]) -> Find | None:
    """Return what asks the member of a union that a value is of: structs tell by their tag."""
    finders = [(shape, find) for shape, find in members if find is not None]
    if not finders:
        return None

    def find(value: Any) -> str:
        for shape, each in finders:
            fits = each.fits(value) if isinstance(each, _Fields) else isinstance(value, shape)
            if fits and (found := each(value)):
                return found
        return ""

    return find


# What a client leaves out


class _Trimmed:
    """How one struct is sent: its fields, each with its default as bytes; None: it is always sent."""

    def __init__(self, info: Any) -> None:
        self.is_array = bool(getattr(info, "array_like", False))
        tag = getattr(info, "tag", None)
        self.head: tuple[Any, ...] = () if tag is None else (info.tag_field, tag)
        self.fields = [(each.name, each.encode_name, *_default_of(each)) for each in info.fields]
        self.has_default = any(has_default for *_, has_default, _ in self.fields)

    def sent(self, value: Any, trim: Trim) -> Any:
        """Return what is sent of a struct: a list up to the last field that says something, or a dict."""
        if self.is_array:
            values = [getattr(value, name) for name, *_ in self.fields]
            while values and self._is_default(len(values) - 1, values[-1]):
                values.pop()
            return [*self.head[1:], *map(trim, values)]
        made = {self.head[0]: self.head[1]} if self.head else {}
        for place, (name, called, *_) in enumerate(self.fields):
            item = getattr(value, name)
            if not self._is_default(place, item):
                made[called] = trim(item)
        return made

    def _is_default(self, place: int, value: Any) -> bool:
        *_, has_default, default = self.fields[place]
        if not has_default:
            return False
        return value is msgspec.UNSET if default is None else sorted_bytes(value) == default


def _default_of(field: Any) -> tuple[bool, bytes | None]:
    """Return whether a field may be left out, and the bytes of its default; None: it is `UNSET`."""
    if field.default is msgspec.UNSET:
        return True, None
    if field.default is not msgspec.NODEFAULT:
        return _encoded(field.default)
    has_factory = field.default_factory is not msgspec.NODEFAULT
    return _encoded(field.default_factory()) if has_factory else (False, None)


def _encoded(default: Any) -> tuple[bool, bytes | None]:
    try:
        return True, sorted_bytes(default)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False, None


def trimmer(arguments: type[msgspec.Struct]) -> Trim | None:
    """Return what makes, of an argument, what is sent of it; None: all of it is."""
    table = {info.cls: _Trimmed(info) for info in _sent_by_field(arguments)}
    if not any(each.has_default for each in table.values()):
        return None

    def trim(value: Any) -> Any:
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind in table:
            return table[kind].sent(value, trim)
        if kind in {list, tuple, set, frozenset}:
            return [trim(item) for item in value]
        if kind is dict:
            return {key: trim(item) for key, item in value.items()}
        return value

    return trim


def _sent_by_field(arguments: type[msgspec.Struct]) -> Iterator[Any]:
    for field in msgspec.structs.fields(arguments):
        for info in types_in(kinds.type_info(field.type)):
            if isinstance(info, kinds.StructType | kinds.DataclassType) and isinstance(info.cls, type):
                yield info

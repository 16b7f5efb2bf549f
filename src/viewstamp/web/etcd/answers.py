"""What clients get: protobuf's JSON as etcd writes it. Integers are texts, and what is zero is left out."""

import base64
from collections.abc import Iterable
from typing import Any, TypeAlias

from viewstamp.services.store.types import Event, KeyValue

Answer: TypeAlias = dict[str, Any]


def message(**fields: Any) -> Answer:
    """Return a message with the fields that are not zero. An inner message stays, even if it is empty."""
    return {name: _shown(value) for name, value in fields.items() if value or isinstance(value, dict)}


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def encoded_keys(keys: Iterable[bytes]) -> list[str]:
    """Return keys as they stand in a list."""
    return [base64.b64encode(key).decode() for key in keys]


def key_value(item: KeyValue, *, keys_only: bool = False) -> Answer:
    """Return a key as etcd shows it."""
    return message(
        key=item.key,
        create_revision=item.create,
        mod_revision=item.mod,
        version=item.version,
        value=b"" if keys_only else item.value,
        lease=item.lease,
    )


def event(changed: Event, revision: int) -> Answer:
    """Return a change of a key as etcd shows it: a deletion has the key and the revision alone."""
    before = {} if changed.before is None else {"prev_kv": key_value(changed.before)}
    if changed.item is None:
        return {"type": "DELETE", "kv": message(key=changed.key, mod_revision=revision), **before}
    return {"kv": key_value(changed.item), **before}

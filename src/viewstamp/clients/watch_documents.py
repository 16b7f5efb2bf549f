"""What a watch tells, as documents for JSON. Keys and values that are not text are base64."""

from collections.abc import Sequence
from typing import Any

from viewstamp.services.store.types import Event, KeyValue
from viewstamp.services.store.watching import Changes, Progress, Resync, Told


def document_of(told: Told) -> dict[str, Any]:
    """Return what was told, for a program."""
    match told:
        case Changes():
            events = [_event(event) for event in told.events]
            more = {"more": True} if told.more else {}
            return {"type": "changes", "revision": told.revision, "events": events, **more}
        case Resync():
            return {"type": "resync", "revision": told.revision, "items": items_of(told.items)}
        case Progress():
            return {"type": "progress", "revision": told.revision}


def _event(event: Event) -> dict[str, Any]:
    if event.item is None:
        return {"type": "delete", **_text("key", event.key)}
    return {"type": "put", **item_document(event.item)}


def items_of(items: Sequence[KeyValue]) -> list[dict[str, Any]]:
    """Return keys for a program."""
    return [item_document(item) for item in items]


def item_document(item: KeyValue) -> dict[str, Any]:
    """Return a key for a program."""
    return {
        **_text("key", item.key),
        **_text("value", item.value),
        "create": item.create,
        "mod": item.mod,
        "version": item.version,
        **({"lease": item.lease} if item.lease else {}),
    }


def _text(name: str, data: bytes) -> dict[str, Any]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": data}

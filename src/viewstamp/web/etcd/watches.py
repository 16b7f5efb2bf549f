"""etcd's Watch service: one watch for each request, as a stream of JSON objects, a line and a chunk each.

Rules of this file:

- a revision is told as a whole. One that has more than `REVISION_BYTES_MAX` is told in parts that say so
  (`fragment`), also where the client did not ask for that; with `fragment` the parts go out as they come;
- where the history does not reach back the watch is canceled with `compact_revision`, as with etcd: the
  client lists the range and watches from there;
- a slow reader holds a cursor and one answer of the cluster, never a queue.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

from viewstamp.core.errors import PermissionDenied
from viewstamp.services.store.types import ITEM_BYTES, Compacted, Event, Watch
from viewstamp.services.store.watching import Changes, Progress
from viewstamp.web.etcd.answers import Answer, event, message
from viewstamp.web.etcd.call import Call
from viewstamp.web.etcd.messages import FILTERS, WatchCreateRequest, WatchRequest, member
from viewstamp.web.etcd.refusals import UNIMPLEMENTED, Refusal, refusal_of

REVISION_BYTES_MAX: Final = 4 << 20
"""What is kept of a revision before it is told in parts."""
_FIRST_KEY: Final = b"\0"


def creation_of(request: WatchRequest) -> WatchCreateRequest:
    """Return which watch a stream begins with.

    Raises:
        Refusal: none. Nothing was begun.
    """
    create = request.create_request
    if create is None:
        raise Refusal(
            UNIMPLEMENTED, "a stream over HTTP is one watch: send a create_request, and end it to cancel"
        )
    for each in create.filters:
        member(each, FILTERS)
    return create


async def watched(call: Call, create: WatchCreateRequest) -> AsyncIterator[Answer]:
    """Yield what a watch tells, the first thing being that it was created."""
    key = create.key or _FIRST_KEY
    number = {"watch_id": str(create.watch_id)} if create.watch_id else {}

    def told(revision: int, **fields: Any) -> Answer:
        return {"result": {"header": call.header(revision), **number, **fields}}

    try:
        now = await call.store.kv_revision()
        after = create.start_revision - 1 if create.start_revision > 0 else now
        found = await call.store.kv_changes(Watch(key, create.range_end, after))
    except PermissionDenied as error:
        refusal = refusal_of(error)
        assert refusal is not None
        yield told(0, created=True, canceled=True, cancel_reason=refusal.text)
        return
    yield told(now, created=True)
    if isinstance(found, Compacted):
        yield told(0, canceled=True, compact_revision=str(found.oldest))
        return
    parts = _Parts(create)
    async for what in call.client.kv.watch(key=key, end=create.range_end, after=after, prev=create.prev_kv):
        match what:
            case Changes():
                for fields in parts.of(what):
                    yield told(what.revision, **fields)
            case Progress():
                if create.progress_notify:
                    yield told(what.revision)
            case _:
                yield told(0, canceled=True, compact_revision=str(what.revision))
                return


class _Parts:
    """What a watch has heard of a revision and not told yet."""

    def __init__(self, create: WatchCreateRequest) -> None:
        filters = {member(each, FILTERS) for each in create.filters}
        self._puts, self._deletes = "NOPUT" not in filters, "NODELETE" not in filters
        self._at_once = create.fragment
        self._events: list[Answer] = []
        self._size = 0
        self._began = False

    def of(self, changes: Changes) -> list[dict[str, Any]]:
        """Take in a part of a revision; return the answers that are due."""
        for each in changes.events:
            if self._deletes if each.item is None else self._puts:
                self._events.append(event(each, changes.revision))
                self._size += _size(each)
        if changes.more and not self._at_once and self._size <= REVISION_BYTES_MAX:
            return []
        events, self._events, self._size = self._events, [], 0
        began, self._began = self._began, changes.more and (self._began or bool(events))
        if not events and not began:
            return []
        return [message(events=events, fragment=changes.more)]


def _size(changed: Event) -> int:
    items = (changed.item, changed.before)
    return ITEM_BYTES + len(changed.key) + sum(len(item.value) for item in items if item is not None)

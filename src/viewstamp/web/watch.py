"""`/v1/watch`: what changes in the coordination store, as server-sent events.

Rules of this file:

- it is closed as the verbs are: without the operators' secret there is no stream;
- an event's id is the revision up to which everything was told: a browser that comes back with it in
  `Last-Event-ID` misses nothing and gets nothing twice. A part of a revision has none;
- a stream holds a cursor and one connection to the cluster, and there is a bounded number of them.

The stream asks the cluster as any client does, by the name of the local operator where the node has the
secret of its cluster, and by that of the node (`node/1`) where it has a certificate: grants are asked as for
every call.

Source: WHATWG HTML, 9.2 "Server-sent events".
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from viewstamp.clients.coordination import Coordination
from viewstamp.clients.watch_documents import document_of
from viewstamp.core.errors import ViewstampError
from viewstamp.runtime.server import Server
from viewstamp.services.kv import KEY_BYTES_MAX
from viewstamp.services.store.watching import Changes, Told
from viewstamp.web.admin import Proof

STREAMS_MAX: Final = 64
"""Streams of one node at a time."""
CLOSING: Final[set[asyncio.Future[None]]] = set()
"""Clients of streams that have ended, until their connections are closed."""
_REVISION_DIGITS_MAX: Final = 19
_PARAMETERS: Final = 2
_REVISION_END: Final = 1 << 63
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


class _Refused(Exception):
    """The request cannot be a stream."""


class _Stream(StreamingResponse):
    """A stream that has a place until it ends, also where its reader is gone before it begins."""

    def __init__(self, events: AsyncIterator[bytes], ended: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=_HEADERS)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


def watch_routes(server: Server, proof: Proof) -> list[Route]:
    """Return the path."""
    streams: set[Request] = set()

    async def watch(request: Request) -> Response:
        why = proof(request)
        if why:
            return _refusal(why, 403)
        try:
            prefix, after = _prefix_of(request), _after_of(request)
        except _Refused as error:
            return _refusal(str(error), 400)
        if not server.running or len(streams) >= STREAMS_MAX:
            return _refusal("the node has stopped, or has as many streams as it may", 503)
        if request.method == "HEAD":  # its reader reads nothing, and a stream would not end
            return Response(media_type="text/event-stream", headers=_HEADERS)
        streams.add(request)
        return _Stream(_events(server, prefix, after), partial(streams.discard, request))

    return [Route("/v1/watch", watch)]


async def _events(server: Server, prefix: str, after: int | None) -> AsyncIterator[bytes]:
    yield b": the revision of each event is its id\n\n"
    files = server.config.tls or server.cluster.tls
    own = None if files is None else files.of(f"node-{server.node}")
    client = Coordination(server.cluster, operator=own is None, tls=own)
    try:
        await client.start()
        async for told in client.kv.watch(prefix, after=after):
            yield event_of(told)
    except (ViewstampError, Exception) as error:  # noqa: BLE001  whatever ends the stream, its reader is told
        yield b"event: error\ndata: " + msgspec.json.encode({"error": str(error)}) + b"\n\n"
    finally:
        # A reader that goes away cancels whatever this awaits: its connections are given back all the same.
        closing = asyncio.ensure_future(client.close())
        CLOSING.add(closing)
        closing.add_done_callback(CLOSING.discard)
        await asyncio.shield(closing)


def event_of(told: Told) -> bytes:
    """Return what was told as one event; a part of a revision has no id."""
    document = document_of(told)
    is_part = isinstance(told, Changes) and told.more
    place = b"" if is_part else b"id: %d\n" % told.revision
    return (
        place + f"event: {document['type']}\n".encode() + b"data: " + msgspec.json.encode(document) + b"\n\n"
    )


def _given(request: Request) -> dict[str, str]:
    """Return what the query says: a name that is misspelt or given twice would watch something else."""
    text = request.scope["query_string"].decode("latin-1")
    try:
        given = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS)
    except ValueError:  # a UnicodeDecodeError is one
        raise _Refused("the query is not UTF-8 text, or has too many parts") from None
    names = [name for name, _ in given]
    if len(set(names)) < len(names) or not {"prefix", "after"}.issuperset(names):
        raise _Refused("give `prefix` and `after`, each once at most")
    return dict(given)


def _prefix_of(request: Request) -> str:
    prefix = _given(request).get("prefix", "")
    if len(prefix.encode("utf-8", "replace")) > KEY_BYTES_MAX:
        raise _Refused(f"a prefix has up to {KEY_BYTES_MAX} bytes")
    return prefix


def _after_of(request: Request) -> int | None:
    """Return the revision after which to begin; None: now. What a browser remembers goes first."""
    text = request.headers.get("last-event-id") or _given(request).get("after")
    if text is None:
        return None
    if (
        not (text.isascii() and text.isdigit() and len(text) <= _REVISION_DIGITS_MAX)
        or int(text) >= _REVISION_END
    ):
        raise _Refused(f"{text[:40]!a} is not a revision")
    return int(text)


def _refusal(why: str, code: int) -> Response:
    return Response(
        msgspec.json.encode({"error": why}) + b"\n", status_code=code, media_type="application/json"
    )

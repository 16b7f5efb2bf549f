"""The app: the paths, who speaks, how long a body may be, and what an error becomes.

Rules of this file:

- everything is a POST with a JSON object, but `/version` and `/health`;
- the paths stand under `/v3`, and under `/v3beta` and `/v3alpha`, which older clients use;
- a request that a browser makes for a page of another origin is refused: no client of etcd says an origin,
  and a page must not write into a store on the loopback of its reader;
- `raft_term` in a header is the view of this node: it never goes down here.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from viewstamp.runtime.addresses import Address
from viewstamp.runtime.server import Server
from viewstamp.web.etcd import kv, leases, watches
from viewstamp.web.etcd.answers import Answer, message
from viewstamp.web.etcd.call import Call
from viewstamp.web.etcd.callers import Callers
from viewstamp.web.etcd.cluster import Members, cluster_number, member_number, version
from viewstamp.web.etcd.messages import (
    AuthenticateRequest,
    CompactionRequest,
    DeleteRangeRequest,
    LeaseGrantRequest,
    LeaseRequest,
    Message,
    PutRequest,
    RangeRequest,
    TxnRequest,
    WatchRequest,
    decoded,
)
from viewstamp.web.etcd.refusals import (
    INTERNAL,
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    RESOURCE_EXHAUSTED,
    STOPPED,
    TOO_LARGE,
    TOO_MANY_REQUESTS,
    UNAVAILABLE,
    Refusal,
    error_body,
    refusal_of,
)

M = TypeVar("M", bound=Message)
Handler = Callable[[Call, Any], Awaitable[Answer]]

LOG: Final = logging.getLogger("viewstamp.web")
PREFIXES: Final = ("/v3", "/v3beta", "/v3alpha")
BODY_BYTES_MAX: Final = 4 << 20
"""Of one request, as JSON: more than the largest value in base64."""
WATCHES_MAX: Final = 256
"""Watches of one gateway at a time."""

HANDLERS: Final[dict[str, tuple[Handler, type[Message]]]] = {
    "/kv/range": (kv.range_, RangeRequest),
    "/kv/put": (kv.put, PutRequest),
    "/kv/deleterange": (kv.delete_range, DeleteRangeRequest),
    "/kv/txn": (kv.txn, TxnRequest),
    "/kv/compaction": (kv.compact, CompactionRequest),
    "/lease/grant": (leases.grant, LeaseGrantRequest),
    "/lease/keepalive": (leases.keep_alive, LeaseRequest),
    "/lease/revoke": (leases.revoke, LeaseRequest),
    "/lease/timetolive": (leases.time_to_live, LeaseRequest),
    "/lease/leases": (leases.leases, Message),
    "/kv/lease/revoke": (leases.revoke, LeaseRequest),
    "/kv/lease/timetolive": (leases.time_to_live, LeaseRequest),
    "/kv/lease/leases": (leases.leases, Message),
}
"""By path: what asks the cluster, and what it is given."""


class Gateway:
    """The gateway of one node. `app` serves it; close it at the end."""

    def __init__(self, server: Server, *, listens_at: Address | None = None, secure: bool = False) -> None:
        """`listens_at` is what clients are told of this gateway, where the cluster file says nothing."""
        self._server = server
        self._callers = Callers(server)
        self._members = Members(server, listens_at, secure=secure)
        self._revision = 0
        """The last one that was seen here."""
        self._watches = 0
        self.app = Starlette(routes=self._routes(), exception_handlers={Exception: _failed})

    async def close(self) -> None:
        """End the clients of the cluster."""
        await self._callers.close()

    def _routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = [Route("/version", self._version), Route("/health", self._health)]
        for prefix in PREFIXES:
            for path, (handler, kind) in HANDLERS.items():
                routes.append(self._post(prefix + path, self._asking(handler), kind))
            routes += [
                self._post(prefix + "/watch", self._watch, WatchRequest),
                self._post(prefix + "/cluster/member/list", self._list, Message),
                self._post(prefix + "/maintenance/status", self._status, Message),
                self._post(prefix + "/auth/authenticate", self._authenticate, AuthenticateRequest),
            ]
        return routes

    def _post(self, path: str, answer: Callable[[Request, M], Awaitable[Response]], kind: type[M]) -> Route:
        """Return the route of a path: what it refuses is told as etcd tells it."""

        async def endpoint(request: Request) -> Response:
            try:
                self._require_taken(request)
                return await answer(request, decoded(await _body(request), kind))
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:  # noqa: BLE001  whatever it is, the caller is told
                return _refused(error, path)

        return Route(path, endpoint, methods=["POST"])

    def _require_taken(self, request: Request) -> None:
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            raise Refusal(PERMISSION_DENIED, "a page of another origin may not use this")
        if not self._server.running:
            raise Refusal(UNAVAILABLE, STOPPED)

    def _asking(self, handler: Handler) -> Callable[[Request, Message], Awaitable[Response]]:
        async def answer(request: Request, asked: Message) -> Response:
            async with self._callers.speaking(_authorization(request)) as client:
                return _json(await handler(Call(client, self._header), asked))

        return answer

    async def _watch(self, request: Request, asked: WatchRequest) -> Response:
        create = watches.creation_of(asked)
        if self._watches >= WATCHES_MAX:
            raise Refusal(RESOURCE_EXHAUSTED, TOO_MANY_REQUESTS, reason=f"{WATCHES_MAX} watches are served")
        # What the stream holds is given back where it ends, which may be before its first line.
        async with AsyncExitStack() as held:
            client = await held.enter_async_context(self._callers.speaking(_authorization(request)))
            self._watches += 1
            held.callback(self._ended)
            return _Stream(watches.watched(Call(client, self._header), create), held.pop_all())

    def _ended(self) -> None:
        self._watches -= 1

    async def _version(self, request: Request) -> Response:
        del request
        return _json(version())

    async def _health(self, request: Request) -> Response:
        """Tell load balancers whether a leader is known; `/readyz` of the node's own port says why."""
        del request
        server = self._server
        serves = server.running and server.status().leader is not None and not server.draining
        return _json({"health": "true" if serves else "false"}, 200 if serves else 503)

    async def _list(self, request: Request, asked: Message) -> Response:
        del request, asked
        return _json(self._members.listed(self._header(0)))

    async def _status(self, request: Request, asked: Message) -> Response:
        del request, asked
        return _json(self._members.status(self._header(0)))

    async def _authenticate(self, request: Request, asked: AuthenticateRequest) -> Response:
        del request
        token = self._callers.authenticated(asked.name, asked.password)
        return _json(message(header=self._header(0), token=token))

    def _header(self, revision: int) -> Answer:
        self._revision = max(self._revision, revision)
        server = self._server
        return message(
            cluster_id=cluster_number(server),
            member_id=member_number(server.node),
            revision=max(kv.FIRST_REVISION, revision or self._revision),
            raft_term=server.status().view,
        )


class _Stream(StreamingResponse):
    """A watch: each answer is one line, and one chunk."""

    def __init__(self, told: AsyncIterator[Answer], held: AsyncExitStack) -> None:
        super().__init__(
            self._lines(told), media_type="application/json", headers={"cache-control": "no-store"}
        )
        self._held = held

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._held.aclose()

    @staticmethod
    async def _lines(told: AsyncIterator[Answer]) -> AsyncIterator[bytes]:
        try:
            async for answer in told:
                yield msgspec.json.encode(answer) + b"\n"
        except Exception as error:  # noqa: BLE001  whatever ends the stream, its reader is told
            refusal = refusal_of(error) or _bug(error, "watch")
            yield msgspec.json.encode(refusal.of_stream) + b"\n"


def _authorization(request: Request) -> str:
    return request.headers.get("authorization", "")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise Refusal(INVALID_ARGUMENT, TOO_LARGE, reason=f"a body has up to {BODY_BYTES_MAX} bytes")
    return bytes(body)


def _json(value: Answer, code: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status_code=code, media_type="application/json")


def _refused(error: Exception, path: str) -> Response:
    refusal = refusal_of(error) or _bug(error, path)
    return Response(error_body(refusal), status_code=refusal.status, media_type="application/json")


def _bug(error: Exception, path: str) -> Refusal:
    """A bug in a handler costs its caller the answer, and nobody else anything."""
    LOG.error("%s: %s: %s", path, type(error).__name__, error)
    return Refusal(INTERNAL, "this request failed: the node's log says why", executed=None)


async def _failed(request: Request, error: Exception) -> Response:
    return _refused(error, request.url.path[:200])

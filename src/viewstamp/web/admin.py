"""`/status`, and the verbs of operators: POST, with what proves that the caller is one.

Rules of this file:

- `/status` tells what `viewstamp status` tells; it changes nothing and needs no proof.
- A verb needs the operators' secret as a bearer token. Where the node has none, every verb is refused: that
  somebody reaches a loopback port proves nothing.
- The secret comes from a file that only this user may read, and stands in no log and no answer.
- What a verb may be is a closed list; each is what `core.events.Directive` has.
"""

import hmac
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.events import CHANGES_MAX, ChangeMembers, Directive, TakeSnapshot, TransferLeadership
from viewstamp.core.ids import Incarnation, NodeId
from viewstamp.core.protocol import Status
from viewstamp.runtime.server import Server

Proof = Callable[[Request], str]
"""Returns why the caller is not an operator, in one line; empty: it is one."""

Perform = Callable[[Request, type[Any], Callable[[Any], Directive]], Awaitable[Response]]
"""Carries out a verb for a caller that has shown the proof."""

SECRET_LENGTH_MIN: Final = 16
_SECRET_BYTES_MAX: Final = 4_096
_BODY_BYTES_MAX: Final = 4_096


def document_of(status: Status) -> dict[str, Any]:
    """Return a status as JSON has it."""
    document: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(status))
    document["last"] = {"view": status.last.view, "seqno": status.last.seqno}
    document["peers"] = [msgspec.structs.asdict(peer) for peer in status.peers]
    return document


def members_document(status: Status) -> dict[str, Any]:
    """Return the members by the log of a node, and the entry that says so."""
    known = status.membership
    if known is None:
        return {"leader": status.leader, "members": None}
    return {
        "leader": status.leader,
        "at": str(known.changed_at),
        "settled": known.settled,
        "members": {
            "voters": known.voters,
            "learners": known.learners,
            "leaving": known.outgoing,
            "promised": known.promised,
            "removed": [(node, incarnation, str(at)) for node, incarnation, at in known.removed],
        },
    }


def bearer(secret: str | None) -> Proof:
    """Return the proof by a shared secret; None: nobody is an operator."""

    def refusal(request: Request) -> str:
        if secret is None:
            return "this node has no operators' secret: start it with --http-secret FILE"
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), secret.encode()):
            return "refused: send the operators' secret, as `Authorization: Bearer ...`"
        return ""

    return refusal


def read_secret(path: Path) -> str:
    """Return the secret in a file.

    Raises:
        ConfigurationError: it cannot be read, others may read it, or it is too short.
    """
    try:
        with path.open("rb") as file:
            mode = path.stat().st_mode
            data = file.read(_SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise ConfigurationError(f"{path}: others may read it; `chmod 600` it")
    text = data.decode("utf-8", "replace").strip()
    if not SECRET_LENGTH_MIN <= len(text) <= _SECRET_BYTES_MAX or not text.isprintable() or " " in text:
        raise ConfigurationError(f"{path}: a secret is one line of {SECRET_LENGTH_MIN} letters or more")
    return text


class Transfer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `/admin/transfer`."""

    to: int | None = None
    """The member that is to lead; None: any fit one."""


class Changes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of `/admin/members`: what of the members is to change, all of it or nothing."""

    add: tuple[tuple[int, int], ...] = ()
    """(node, incarnation) of nodes that begin to learn; a node that waits tells both at its `/status`."""
    promote: tuple[int, ...] = ()
    remove: tuple[int, ...] = ()
    replace: tuple[tuple[int, int], ...] = ()
    """(old, new) each."""

    def directive(self) -> ChangeMembers:
        """Return what a node is asked for.

        Raises:
            ValueError: too many are named.
        """
        parts = (self.add, self.promote, self.remove, self.replace)
        if max(map(len, parts)) > CHANGES_MAX:
            raise ValueError(f"more than {CHANGES_MAX} members are named")
        return ChangeMembers(
            add=tuple((NodeId(node), Incarnation(incarnation)) for node, incarnation in self.add),
            promote=tuple(map(NodeId, self.promote)),
            remove=tuple(map(NodeId, self.remove)),
            replace=tuple((NodeId(old), NodeId(new)) for old, new in self.replace),
        )


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a verb without arguments."""


def _json(value: object, code: int = 200) -> Response:
    return Response(msgspec.json.encode(value) + b"\n", status_code=code, media_type="application/json")


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _BODY_BYTES_MAX:
            raise ValueError(f"longer than {_BODY_BYTES_MAX} bytes")
    return body or b"{}"


def admin_routes(server: Server, proof: Proof) -> list[Route]:
    """Return the paths."""

    async def status(request: Request) -> Response:
        del request
        if not server.running:
            return _json({"error": "the node has stopped"}, 503)
        return _json(
            {
                "cluster_id": server.cluster.cluster_id,
                "draining": server.draining,
                **document_of(server.status()),
                "budgets": {name: list(pair) for name, pair in server.budgets().items()},
                "counters": server.counters(),
            }
        )

    async def perform(request: Request, body_type: type[Any], make: Callable[[Any], Directive]) -> Response:
        why = proof(request)
        if why:
            return _json({"done": False, "refusal": why}, 403)
        try:
            directive = make(msgspec.json.decode(await _body(request), type=body_type))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return _json({"done": False, "refusal": f"the body cannot be used: {error}"}, 400)
        if not server.running:
            return _json({"done": False, "refusal": "the node has stopped"}, 503)
        refusal = await server.direct(directive)
        return _json({"done": refusal is None, "refusal": refusal or ""}, 200 if refusal is None else 409)

    async def transfer(request: Request) -> Response:
        def make(body: Transfer) -> Directive:
            return TransferLeadership(None if body.to is None else NodeId(body.to))

        return await perform(request, Transfer, make)

    async def snapshot(request: Request) -> Response:
        return await perform(request, Nothing, lambda _: TakeSnapshot())

    return [
        Route("/status", status),
        *_member_routes(server, perform),
        Route("/admin/transfer", transfer, methods=["POST"]),
        Route("/admin/snapshot", snapshot, methods=["POST"]),
    ]


def _member_routes(server: Server, perform: Perform) -> list[Route]:
    """Return the paths that show and change the members."""

    async def show(request: Request) -> Response:
        del request
        if not server.running:
            return _json({"error": "the node has stopped"}, 503)
        return _json(members_document(server.status()))

    async def change(request: Request) -> Response:
        answer = await perform(request, Changes, Changes.directive)
        if answer.status_code != 200:
            return answer
        return _json({"done": True, "refusal": "", **members_document(server.status())})

    return [
        Route("/admin/members", show, methods=["GET"]),
        Route("/admin/members", change, methods=["POST"]),
    ]

"""`/livez` and `/readyz`: two questions that must not be mixed.

Rules of this file:

- *Live* means that the loop turns and that no invariant of the node's own has failed. It never depends on a
  quorum, on the disk or on how far the node is behind: a supervisor that restarts nodes for what a restart
  cannot mend makes an outage out of a disturbance (kubernetes/kubernetes#96886, etcd-io/etcd#13340).
- *Ready* means that a client that comes here is served: a leader is known, what is committed is applied up to
  a bound, the node is not about to stop and does not wait for anything.
- `?verbose` lists the checks, `?exclude=NAME` leaves one out; both in the manner of Kubernetes.
"""

from collections.abc import Callable, Iterator
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from viewstamp.runtime.server import Server

LAG_ENTRIES_MAX: Final = 10_000
"""A node that has this many committed entries to apply is not ready."""

Check = tuple[str, Callable[[Server], str]]
"""Its name, and what returns in a few words why it fails; empty: it does not."""


def _turns(server: Server) -> str:
    """To answer at all is what proves it; a node that has stopped answers no more."""
    return "" if server.failure is None else "it has failed"


def _draining(server: Server) -> str:
    return "it is about to stop" if server.draining else ""


def _leader(server: Server) -> str:
    return "" if server.status().leader is not None else "no leader is known"


def _applied(server: Server) -> str:
    status = server.status()
    behind = status.committed - status.applied
    return "" if behind <= LAG_ENTRIES_MAX else f"{behind} committed entries are not applied"


def _serves(server: Server) -> str:
    return server.status().waiting_for


LIVE: Final[tuple[Check, ...]] = (("turns", _turns),)
READY: Final[tuple[Check, ...]] = (
    ("turns", _turns),
    ("draining", _draining),
    ("leader", _leader),
    ("applied", _applied),
    ("serves", _serves),
)


def failures(
    server: Server, checks: tuple[Check, ...], excluded: frozenset[str]
) -> Iterator[tuple[str, str]]:
    """Yield the name of each check that is not excluded, and why it fails (empty: it does not)."""
    for name, check in checks:
        if name not in excluded:
            yield name, check(server) if server.running else "it has stopped"


def health_routes(server: Server) -> list[Route]:
    """Return the two paths."""

    def answer(request: Request, checks: tuple[Check, ...]) -> PlainTextResponse:
        excluded = frozenset(request.query_params.getlist("exclude"))
        unknown = excluded - {name for name, _ in checks}
        found = list(failures(server, checks, excluded))
        failed = any(why for _, why in found)
        lines = [f"[-]{name}: {why}" if why else f"[+]{name}: ok" for name, why in found]
        lines += [f"[?]{name[:40]}: there is no such check" for name in sorted(unknown)]
        if not failed and "verbose" not in request.query_params:
            lines = []
        text = "\n".join([*lines, "failed" if failed else "ok"]) + "\n"
        return PlainTextResponse(text, status_code=503 if failed else 200)

    async def livez(request: Request) -> PlainTextResponse:
        return answer(request, LIVE)

    async def readyz(request: Request) -> PlainTextResponse:
        return answer(request, READY)

    return [Route("/livez", livez), Route("/readyz", readyz)]

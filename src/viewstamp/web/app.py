"""The app of one node: the paths of this package, and those that others add.

Another package writes a function that takes a `Server` and returns routes, and gives it to `make_app`:
`make_app(server, routers=[door.routes])`. Its paths stand behind those of this package, which stay.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from viewstamp.runtime.server import Server
from viewstamp.web.admin import Proof, admin_routes, bearer
from viewstamp.web.health import health_routes
from viewstamp.web.metrics import Extra, metrics_route
from viewstamp.web.watch import watch_routes

LOG: Final = logging.getLogger("viewstamp.web")
Router = Callable[[Server], Sequence[BaseRoute]]
"""What another package offers: its paths for one node."""


def make_app(
    server: Server,
    *,
    proof: Proof | None = None,
    routers: Iterable[Router] = (),
    metrics: Iterable[Extra] = (),
) -> Starlette:
    """Return the ASGI app of a node.

    Args:
        server: the node; it may start and stop while the app lives.
        proof: what proves that a caller is an operator. None: no caller is.
        routers: make the paths of other packages.
        metrics: what other packages add to each scrape.
    """
    routes: list[BaseRoute] = [
        *health_routes(server),
        metrics_route(server, metrics),
        *admin_routes(server, proof or bearer(None)),
        *watch_routes(server, proof or bearer(None)),
    ]
    for router in routers:
        routes += router(server)
    return Starlette(routes=routes, exception_handlers={Exception: _failed})


async def _failed(request: Request, error: Exception) -> Response:
    """A bug in a handler costs its caller the answer, and nobody else anything."""
    LOG.error("%s: %s: %s", request.url.path[:200], type(error).__name__, error)
    return PlainTextResponse("this request failed: the node's log says why\n", status_code=500)

"""FastAPI: clients that live as long as the app, dependencies, readiness, and errors as HTTP statuses.

    vs = Viewstamp("prod.toml")
    app = FastAPI(lifespan=vs.lifespan)
    vs.install(app)

    @app.put("/items/{name}")
    async def put(name: str, kv: Annotated[Keys, Depends(vs.kv)]) -> int:
        return await kv.put(name, b"...")

Rules of this file:

- nothing is connected before the app starts, and everything is given back when it ends;
- an error's status says what its `executed` and `retry` say: 503 where nothing was executed and the request
  may be sent again, 504 where nobody can tell, 409 where the command itself refused. No text is interpreted.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Generic, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from viewstamp.clients.coordination import Conflict, Coordination, Keys
from viewstamp.clients.held_claim import ClaimLost, HeldClaim
from viewstamp.clients.recipes import Recipes
from viewstamp.core.errors import (
    CallError,
    CommandFailed,
    NotExecuted,
    PermissionDenied,
    ViewstampError,
)
from viewstamp.machine.state_machine import StateMachine
from viewstamp.runtime.connecting import connect
from viewstamp.runtime.discovery import Where
from viewstamp.services.kv import InvalidKey, ValueTooLong
from viewstamp.services.store.types import (
    CompactedRevision,
    DuplicateKey,
    FutureRevision,
    InvalidLease,
    LeaseExists,
    LeaseNotFound,
    TooMany,
)

M = TypeVar("M", bound=StateMachine)
T = TypeVar("T")
STORE_REFUSALS: Final[tuple[type[Exception], ...]] = (
    CompactedRevision,
    DuplicateKey,
    FutureRevision,
    InvalidKey,
    InvalidLease,
    LeaseExists,
    LeaseNotFound,
    TooMany,
    ValueTooLong,
)
RETRY_AFTER_S: Final = 1


class Viewstamp(Generic[M]):
    """What an app has of a cluster. Its methods are dependencies: `Depends(vs.kv)`."""

    def __init__(
        self,
        where: Where,
        machine: type[M] | None = None,
        *,
        stock: bool | None = None,
        check: Callable[[Any], Awaitable[object]] | None = None,
        **options: Any,
    ) -> None:
        """Prepare the clients; the app's lifespan starts them.

        Args:
            where: an address, several of them, or a cluster file, as for `viewstamp.connect`.
            machine: the class that the cluster serves, for `client`.
            stock: whether the cluster is a stock server, for `kv`, `store`, `recipes` and `locked`. None: if
                no `machine` is given.
            check: a query of the machine that readiness asks, such as `lambda counter: counter.read()`.
            options: what all clients take: `timeout_s`, `options`, `token`, `tls`.
        """
        self._where = where
        self._machine = machine
        self._is_stock = machine is None if stock is None else stock
        self._check = check
        self._options = options
        self._client: Any = None
        self._store: Coordination | None = None
        self._recipes: Recipes | None = None

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Connect while the app runs: `FastAPI(lifespan=vs.lifespan)`, or enter it in a lifespan of your own.

        Raises:
            ConfigurationError: `where` names no cluster, or an option makes no sense: the app does not start.
            NotExecuted: only addresses were given, and none of them answered in time.
        """
        del app
        async with AsyncExitStack() as stack:
            if self._machine is not None:
                connecting = connect(self._where, self._machine, **self._options)
                self._client = await stack.enter_async_context(connecting)
            if self._is_stock:
                self._store = await stack.enter_async_context(Coordination(self._where, **self._options))
                self._recipes = await stack.enter_async_context(Recipes(self._where, **self._options))
            try:
                yield
            finally:
                self._client = self._store = self._recipes = None

    def install(
        self, app: FastAPI, *, readiness: str = "/readyz", refusals: Iterable[type[Exception]] = ()
    ) -> None:
        """Let an app answer errors of the cluster by their statuses, and whether it is ready.

        Args:
            app: the app.
            readiness: the path that answers whether the cluster can be used; empty: none.
            refusals: exceptions that the machine declares, which are its results: 409, as the store's own.
        """
        for refusal in (*STORE_REFUSALS, *refusals):
            app.add_exception_handler(refusal, _refused)
        app.add_exception_handler(ViewstampError, _answer)
        if readiness:
            app.add_api_route(readiness, self.ready, methods=["GET"], include_in_schema=False)

    # Dependencies

    async def client(self) -> type[M]:
        """Return the typed client of the machine."""
        client: type[M] = _there(self._client)
        return client

    async def store(self) -> Coordination:
        """Return the client of the coordination store."""
        return _there(self._store)

    async def kv(self) -> Keys:
        """Return the keys of the coordination store."""
        return _there(self._store).kv

    async def recipes(self) -> Recipes:
        """Return the client of the recipes."""
        return _there(self._recipes)

    def locked(
        self, name: str, *, timeout_s: float | None = 10.0
    ) -> Callable[[Request], AsyncIterator[HeldClaim]]:
        """Return a dependency that holds a lock while a request is handled.

        `Depends(vs.locked("import/{shop}"), scope="function")` takes the request's path parameters into the
        name. An async handler is cancelled when the lock is doubtful or lost, and the request ends in 504. A
        handler in a thread goes on: let it call `raise_if_lost` before what cannot be undone.

        Raises:
            ClaimTimeout: it was not granted in time: the request ends in 503.
        """

        async def hold(request: Request) -> AsyncIterator[HeldClaim]:
            wanted = name.format(**request.path_params)
            async with _there(self._recipes).lock(wanted, timeout_s=timeout_s) as held:
                yield held

        return hold

    async def ready(self) -> JSONResponse:
        """Answer 200 where the cluster answers, and 503 with the reason where it does not."""
        try:
            if self._check is not None:
                await self._check(_there(self._client))
            elif self._is_stock:
                await _there(self._store).store.kv_revision()
            else:
                _there(self._client)
        except ViewstampError as error:
            return JSONResponse({"ready": False, **told(error)}, status_code=503)
        return JSONResponse({"ready": True})


def status_of(error: ViewstampError) -> int:
    """Return the status that says what an error says."""
    match error:
        case PermissionDenied():
            return 403
        case Conflict() | CommandFailed():
            return 409
        case CallError(executed=None) | ClaimLost():
            return 504
        case CallError(retry=True):
            return 503
        case _:
            return 500


def told(error: ViewstampError) -> dict[str, Any]:
    """Return an error as data, for the body of an answer."""
    executed = getattr(error, "executed", None)
    retry = getattr(error, "retry", False)
    return {"detail": str(error), "error": type(error).__name__, "executed": executed, "retry": retry}


async def _answer(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, ViewstampError)
    status = status_of(error)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse(told(error), status_code=status, headers=headers)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    del request
    body = {"detail": str(error), "error": type(error).__name__, "executed": True, "retry": False}
    return JSONResponse(body, status_code=409)


def _there(client: T | None) -> T:
    if client is None:
        raise NotExecuted("the app has no such client, has not started, or has ended: nothing was asked")
    return client

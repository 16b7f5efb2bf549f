"""On whose behalf a request is made, and the client of the cluster that makes it.

Rules of this file:

- the gateway has no rights of its own: what a request asks is asked of the cluster with the token that came
  with the request, so that grants, the audit trail and the owners of leases are those of its principal;
- a token is verified for each request: one that has ended, or whose key was taken out, is refused at once;
- without a token the caller is anonymous, as a client without one is; where clients need certificates, nobody
  is anonymous;
- there is one client of the cluster for each token, and a bounded number of them: the one that was used
  longest ago gives way, never one that is in use.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from viewstamp.clients.coordination import Coordination
from viewstamp.core.principals import Role
from viewstamp.link.credentials import Trust
from viewstamp.runtime.config import TlsFiles
from viewstamp.runtime.server import Server
from viewstamp.web.etcd.refusals import (
    AUTH_FAILED,
    AUTH_NOT_ENABLED,
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    INVALID_TOKEN,
    RESOURCE_EXHAUSTED,
    TOO_MANY_REQUESTS,
    UNAUTHENTICATED,
    USER_EMPTY,
    Refusal,
)

CALLERS_MAX: Final = 64
"""Tokens for which there is a client at a time."""
TIMEOUT_S: Final = 5.0
"""How long one request may take: as with etcd, about what its clients wait before they ask another member."""
_ANONYMOUS: Final = ""


class _Caller:
    """The client of one token, and how many requests use it."""

    __slots__ = ("client", "users")

    def __init__(self, client: Coordination) -> None:
        self.client = client
        self.users = 0


class Callers:
    """The clients of one gateway. Close it at the end."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._callers: dict[str, _Caller] = {}
        """By token, the one that was used last at the end."""
        self._closing: set[asyncio.Future[None]] = set()
        self._opening = asyncio.Lock()

    def authenticated(self, name: str, password: str) -> str:
        """Return the token of a user: a password is a token that names the user.

        Raises:
            Refusal: the cluster accepts no tokens, or not this one.
        """
        verifier = self._server.security.verifier
        if verifier is None:
            raise Refusal(FAILED_PRECONDITION, AUTH_NOT_ENABLED)
        bearer = verifier.admit(password)
        if isinstance(bearer, str):
            raise Refusal(INVALID_ARGUMENT, AUTH_FAILED, reason=bearer)
        if name not in {bearer.principal, bearer.principal.removeprefix(f"{Role.CLIENT.value}/")}:
            raise Refusal(INVALID_ARGUMENT, AUTH_FAILED, reason="the token names another client")
        return password

    @asynccontextmanager
    async def speaking(self, authorization: str) -> AsyncIterator[Coordination]:
        """Yield the client for a request with this header.

        Raises:
            Refusal: the header names nobody, or there are too many callers. Nothing was done.
        """
        caller = await self._caller(self._token(authorization))
        caller.users += 1
        try:
            yield caller.client
        finally:
            caller.users -= 1

    async def close(self) -> None:
        """End all clients."""
        while self._callers:
            self._end(next(iter(self._callers)))
        await asyncio.gather(*self._closing)

    def _token(self, authorization: str) -> str:
        """Return a token that was verified; empty: the caller is anonymous."""
        scheme, _, rest = authorization.partition(" ")
        token = rest.strip() if scheme.lower() == "bearer" else authorization.strip()
        security = self._server.security
        if not token:
            if security.trust is Trust.CERTIFICATE:
                raise Refusal(INVALID_ARGUMENT, USER_EMPTY)
            return _ANONYMOUS
        found = (
            "this cluster accepts no tokens" if security.verifier is None else security.verifier.admit(token)
        )
        if isinstance(found, str):
            raise Refusal(UNAUTHENTICATED, INVALID_TOKEN, reason=found)
        return token

    async def _caller(self, token: str) -> _Caller:
        async with self._opening:
            caller = self._callers.pop(token, None)
            if caller is None:
                self._make_room()
                caller = _Caller(await self._open(token))
            self._callers[token] = caller
            return caller

    async def _open(self, token: str) -> Coordination:
        files = self._server.config.tls or self._server.cluster.tls
        # Without `cert` the certificate of a client that lies beside the CA's would speak for every caller.
        own = None if files is None else TlsFiles(files.ca, cert="")
        client = Coordination(self._server.cluster, timeout_s=TIMEOUT_S, token=token or None, tls=own)
        await client.start()
        return client

    def _make_room(self) -> None:
        if len(self._callers) < CALLERS_MAX:
            return
        idle = next((token for token, caller in self._callers.items() if not caller.users), None)
        if idle is None:
            raise Refusal(RESOURCE_EXHAUSTED, TOO_MANY_REQUESTS, reason=f"{CALLERS_MAX} callers are served")
        self._end(idle)

    def _end(self, token: str) -> None:
        closing = asyncio.ensure_future(self._callers.pop(token).client.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

"""`connect`, `connect_blocking`, `close`: what users of the library call."""

from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Generic, TypeVar, cast, overload

from viewstamp.machine.state_machine import StateMachine
from viewstamp.replica.options import ClientOptions
from viewstamp.runtime.blocking import BlockingClient
from viewstamp.runtime.client import AsyncClient
from viewstamp.runtime.config import TlsFiles
from viewstamp.runtime.discovery import Where
from viewstamp.runtime.proxies import Reads, binding_of, make_proxy
from viewstamp.runtime.tokens import TokenSource

M = TypeVar("M", bound=StateMachine)


class Connecting(Generic[M]):
    """A client that is being made: await it, or enter it so that it is closed at the end."""

    __slots__ = ("_client", "_machine", "_part", "_reads")

    def __init__(self, client: AsyncClient, machine: type[M], reads: Reads, part: str = "") -> None:
        self._client = client
        self._machine = machine
        self._reads = reads
        self._part = part

    def __await__(self) -> Generator[Any, None, type[M]]:
        return self._connect().__await__()

    async def __aenter__(self) -> type[M]:
        return await self._connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def _connect(self) -> type[M]:
        proxy = make_proxy(self._machine, self._client, reads=self._reads, part=self._part)
        await self._client.start()
        return cast("type[M]", proxy)


def connect(
    where: Where,
    machine: type[M],
    *,
    timeout_s: float = 10.0,
    reads: Reads = "linearizable",
    exactly_once: bool = True,
    options: ClientOptions | None = None,
    notified: Callable[[bytes], None] | None = None,
    part: str = "",
    token: TokenSource | None = None,
    tls: TlsFiles | None = None,
) -> Connecting[M]:
    """Connect to a cluster that replicates `machine`.

    `async with connect("host:7000", Counter) as counter: await counter.add(3)`, or
    `counter = await connect(...)` and, at the end, `await close(counter)`. `where` is an address, several of
    them, or a cluster file.

    Each call ends within `timeout_s` in its result, in the exception that the machine raised, in
    `NotExecuted` or in `OutcomeUnknown`. With `exactly_once=False` a command is sent at most once, and may
    end as unknown. `notified` is called with each one-way message of the machine, encoded. `part` is the name
    of `machine` where the cluster replicates it as a part of a composed one. `token` proves the client's name
    where it has no certificate: the text, or a function that returns the present one for each connection.
    `tls` names this client's certificate, where the cluster file does not.

    Raises:
        ConfigurationError: `where` or `machine` cannot be used.
        NotExecuted: when awaited or entered: only addresses were given, and none of them answered.
    """
    client = AsyncClient(
        where,
        timeout_s=timeout_s,
        exactly_once=exactly_once,
        options=options,
        notified=notified,
        token=token,
        tls=tls,
    )
    return Connecting(client, machine, reads, part)


class BlockingConnection(Generic[M]):
    """A blocking client. `proxy` makes the calls; leaving the `with` block, or `close`, ends it."""

    __slots__ = ("_client", "proxy")

    def __init__(self, client: BlockingClient, machine: type[M], reads: Reads, part: str = "") -> None:
        self._client = client
        self.proxy: M = make_proxy(machine, client, reads=reads, part=part)

    def __enter__(self) -> M:
        return self.proxy

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def close(self) -> None:
        """End every open call, give the session back, close the connections."""
        self._client.close()


def connect_blocking(
    where: Where,
    machine: type[M],
    *,
    timeout_s: float = 10.0,
    reads: Reads = "linearizable",
    exactly_once: bool = True,
    options: ClientOptions | None = None,
    notified: Callable[[bytes], None] | None = None,
    part: str = "",
    token: TokenSource | None = None,
    tls: TlsFiles | None = None,
) -> BlockingConnection[M]:
    """Connect as `connect` does, without async.

    `with connect_blocking("host:7000", Counter) as counter: counter.add(3)`. Without a `with` block the proxy
    is the `proxy` of what is returned, and `close` ends it.

    Any number of threads may call at once. `notified` is called in whichever thread reads the message.

    Raises:
        ConfigurationError: `where` or `machine` cannot be used.
        NotExecuted: only addresses were given, and none of them answered.
    """
    client = BlockingClient(
        where,
        timeout_s=timeout_s,
        exactly_once=exactly_once,
        options=options,
        notified=notified,
        token=token,
        tls=tls,
    )
    try:
        return BlockingConnection(client, machine, reads, part)
    except BaseException:
        client.close()
        raise


@overload
def close(proxy: type[StateMachine]) -> Awaitable[None]: ...


@overload
def close(proxy: StateMachine) -> None: ...


def close(proxy: object) -> Awaitable[None] | None:
    """Close the client behind a proxy; await it if the proxy is an async one.

    Every open call ends, the session is given back. Proxies made by `with_options` share the client.
    """
    caller = binding_of(proxy).caller
    if isinstance(caller, AsyncClient):
        return caller.close()
    assert isinstance(caller, BlockingClient)
    caller.close()
    return None

# ruff: noqa: ASYNC109  the arguments are Django's
"""The cache backend. What a call does is written once, as a coroutine; threads and tasks wait for it alike.

Rules of this file:

- a key is `root`, and what Django makes of the caller's key, its version and KEY_PREFIX;
- what reads and writes is one transaction, on the condition that nobody wrote in between, and begins again if
  somebody did: `incr`, `add`, `touch` and `incr_version` are atomic;
- a change of a value (`incr`) leaves the time at which its key ends;
- a value is pickled and read in the caller's thread, not on the client's loop: it may ask a database.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any, Final, TypeVar

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import (
    DEFAULT_TIMEOUT,
    BaseCache,
    InvalidCacheBackendError,
    InvalidCacheKey,
    default_key_func,
)

from viewstamp.adapters.django.client import Client
from viewstamp.adapters.django.values import Missing, decoded, encoded, moved
from viewstamp.adapters.shared import forget, shared
from viewstamp.clients.conditions import Range, exists, missing, modified
from viewstamp.clients.held_claim import HeldClaim
from viewstamp.clients.recipes_blocking import BlockingHeld, BlockingRecipes
from viewstamp.core.errors import ConfigurationError
from viewstamp.services.store.types import Delete, Get, KeyValue, LeaseNotFound, Put, Txn

T = TypeVar("T")
KEY_BYTES_MAX: Final = 4_096
_NOTHING: Final = object()


class ViewstampCache(BaseCache):
    """A cache in the coordination store. See docs/how-to/use-from-frameworks.md.

    LOCATION is a cluster file (text that ends in .toml), or addresses of members. OPTIONS may have `root`
    ("django/"), which begins all keys, and what `viewstamp.coordination` takes: `token`, `tls`, `timeout_s`.
    """

    def __init__(self, server: Any, params: dict[str, Any]) -> None:
        super().__init__(params)
        options = dict(params.get("OPTIONS") or {})
        for name in ("MAX_ENTRIES", "CULL_FREQUENCY", "max_entries", "cull_frequency"):
            options.pop(name, None)  # keys end by themselves: there is nothing to cull
        self._root = options.pop("root", "django/")
        if not server or not isinstance(self._root, str):
            raise InvalidCacheBackendError("LOCATION names a cluster file or members, and `root` is text")
        self._where = server
        self._options = options
        self._key_of_client = repr(server), repr(sorted(options.items()))

    @property
    def client(self) -> Client:
        """This process's client of the store.

        Raises:
            InvalidCacheBackendError: LOCATION or an option makes no sense.
            NotExecuted: only addresses were given, and none of them answered in time.
        """
        client: Client = self._shared("cache", partial(Client, self._where, self._options))
        return client

    def lock(
        self, name: str, *, timeout_s: float | None = None
    ) -> AbstractContextManager[BlockingHeld[HeldClaim]]:
        """Hold a lock for a block: `with cache.lock("import") as held: ... held.token`.

        Raises:
            ClaimTimeout: it was not granted in time.
            ClaimLost: at the end of the block: it was doubtful or lost meanwhile.
        """
        names = ("timeout_s", "options", "token", "tls")
        options = {each: self._options[each] for each in names if each in self._options}
        recipes: BlockingRecipes = self._shared("locks", partial(BlockingRecipes, self._where, **options))
        return recipes.lock(f"{self._root}{name}", timeout_s=timeout_s)

    def disconnect(self) -> None:
        """Close this process's clients, for the end of a program: Django's `close` ends a request only."""
        for what in ("cache", "locks"):
            client = forget(("django", what, *self._key_of_client))
            if client is not None:
                client.close()

    # Django's interface, for threads

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Set a value where there is none; return whether that was so."""
        name = self._key(key, version)
        return self._run(self._add(name, encoded(name, value), self._ttl_s(timeout)))

    def get(self, key: Any, default: Any = None, version: Any = None) -> Any:
        """Return a value, or the default."""
        name = self._key(key, version)
        return _value(name, self._run(self._get(name)), default)

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> None:
        """Set a value."""
        name = self._key(key, version)
        self._run(self._set(name, encoded(name, value), self._ttl_s(timeout)))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Let a key's time begin again; return whether it exists."""
        return self._run(self._touch(self._key(key, version), self._ttl_s(timeout)))

    def delete(self, key: Any, version: Any = None) -> bool:
        """Delete a key; return whether it existed."""
        return self._run(self._delete(self._key(key, version)))

    def get_many(self, keys: Iterable[Any], version: Any = None) -> dict[Any, Any]:
        """Return the values that there are."""
        names = {key: self._key(key, version) for key in keys}
        return _values(names, self._run(self._get_many(names.values())))

    def has_key(self, key: Any, version: Any = None) -> bool:
        """Return whether a key exists."""
        return self.get(key, _NOTHING, version) is not _NOTHING

    def incr(self, key: Any, delta: int = 1, version: Any = None) -> Any:
        """Add to a value, atomically, and return it. Raises ValueError where there is none."""
        return self._run(self._incr(self._key(key, version), delta))

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> list[Any]:
        """Set values; return the keys that could not be set: none."""
        return self._run(self._set_many(self._written(data, version), self._ttl_s(timeout)))

    def delete_many(self, keys: Iterable[Any], version: Any = None) -> None:
        """Delete keys."""
        self._run(self._delete_many([self._key(key, version) for key in keys]))

    def clear(self) -> None:
        """Delete all keys of this cache: those with its `root` and KEY_PREFIX."""
        self._run(self._clear())

    def incr_version(self, key: Any, delta: int = 1, version: Any = None) -> Any:
        """Move a value to another version, atomically, and return that. Raises ValueError: there is none."""
        old = self.version if version is None else version
        self._run(self._move(self._key(key, old), self._key(key, old + delta)))
        return old + delta

    # The same for tasks

    async def aadd(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Do as `add`."""
        name = self._key(key, version)
        data = await sync_to_async(encoded)(name, value)
        return await self._arun(self._add(name, data, self._ttl_s(timeout)))

    async def aget(self, key: Any, default: Any = None, version: Any = None) -> Any:
        """Do as `get`."""
        name = self._key(key, version)
        return _value(name, await self._arun(self._get(name)), default)

    async def aset(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> None:
        """Do as `set`."""
        name = self._key(key, version)
        data = await sync_to_async(encoded)(name, value)
        await self._arun(self._set(name, data, self._ttl_s(timeout)))

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: Any = None) -> bool:
        """Do as `touch`."""
        return await self._arun(self._touch(self._key(key, version), self._ttl_s(timeout)))

    async def adelete(self, key: Any, version: Any = None) -> bool:
        """Do as `delete`."""
        return await self._arun(self._delete(self._key(key, version)))

    async def aget_many(self, keys: Iterable[Any], version: Any = None) -> dict[Any, Any]:
        """Do as `get_many`."""
        names = {key: self._key(key, version) for key in keys}
        return _values(names, await self._arun(self._get_many(names.values())))

    async def ahas_key(self, key: Any, version: Any = None) -> bool:
        """Do as `has_key`."""
        return await self.aget(key, _NOTHING, version) is not _NOTHING

    async def aincr(self, key: Any, delta: int = 1, version: Any = None) -> Any:
        """Do as `incr`."""
        return await self._arun(self._incr(self._key(key, version), delta))

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: Any = None
    ) -> list[Any]:
        """Do as `set_many`."""
        written = await sync_to_async(self._written)(data, version)
        return await self._arun(self._set_many(written, self._ttl_s(timeout)))

    async def adelete_many(self, keys: Iterable[Any], version: Any = None) -> None:
        """Do as `delete_many`."""
        await self._arun(self._delete_many([self._key(key, version) for key in keys]))

    async def aclear(self) -> None:
        """Do as `clear`."""
        await self._arun(self._clear())

    async def aincr_version(self, key: Any, delta: int = 1, version: Any = None) -> Any:
        """Do as `incr_version`."""
        old = self.version if version is None else version
        await self._arun(self._move(self._key(key, old), self._key(key, old + delta)))
        return old + delta

    # What they do

    async def _add(self, key: bytes, data: bytes, ttl_s: float | None) -> bool:
        if ttl_s is not None and ttl_s <= 0:
            return await self._item(key) is None
        return await self._leased(ttl_s, lambda lease: Txn([missing(key)], [Put(key, data, lease)]))

    async def _get(self, key: bytes) -> bytes | None:
        item = await self._item(key)
        return item.value if item is not None else None

    async def _set(self, key: bytes, data: bytes, ttl_s: float | None) -> None:
        if ttl_s is not None and ttl_s <= 0:
            await self._delete(key)
            return
        await self._leased(ttl_s, lambda lease: Txn([], [Put(key, data, lease)]))

    async def _touch(self, key: bytes, ttl_s: float | None) -> bool:
        if ttl_s is not None and ttl_s <= 0:
            return await self._delete(key)
        return await self._leased(
            ttl_s, lambda lease: Txn([exists(key)], [Put(key, b"", lease, keep_value=True)])
        )

    async def _delete(self, key: bytes) -> bool:
        return (await self.client.store.kv_delete(Delete(key))).count > 0

    async def _get_many(self, keys: Iterable[bytes]) -> list[bytes | None]:
        return await asyncio.gather(*map(self._get, keys))

    async def _set_many(self, written: Mapping[bytes, bytes], ttl_s: float | None) -> list[Any]:
        await asyncio.gather(*(self._set(key, data, ttl_s) for key, data in written.items()))
        return []

    async def _delete_many(self, keys: Iterable[bytes]) -> None:
        await asyncio.gather(*(self._delete(key) for key in keys))

    async def _incr(self, key: bytes, delta: int) -> Any:
        while True:
            item = await self._found(key)
            new = _value(key, item.value, None) + delta
            change = Put(key, encoded(key, new), keep_lease=True)
            if (await self.client.store.kv_txn(Txn([modified(key) == item.mod], [change]))).succeeded:
                return new

    async def _move(self, old: bytes, new: bytes) -> None:
        while True:
            item = await self._found(old)
            change = Put(new, moved(old, new, item.value), item.lease)
            txn = Txn([modified(old) == item.mod], [change, Delete(old)])
            if (await self.client.store.kv_txn(txn)).succeeded:
                return

    async def _clear(self) -> None:
        prefix = f"{self._root}{self.key_prefix}:" if self.key_func is default_key_func else self._root
        span = Range.of(None, prefix)
        while (found := await self.client.store.kv_range(Get(span.key, span.end, keys_only=True))).items:
            await self.client.store.kv_delete(Delete(found.items[0].key, found.items[-1].key + b"\0"))

    # Underneath

    async def _item(self, key: bytes) -> KeyValue | None:
        found = await self.client.store.kv_range(Get(key))
        return found.items[0] if found.items else None

    async def _found(self, key: bytes) -> KeyValue:
        """Return what stands under a key, if this project wrote it; else raise as Django does."""
        item = await self._item(key)
        if item is not None:
            with suppress(Missing):
                moved(key, key, item.value)
                return item
        raise ValueError(f"Key '{key.decode().removeprefix(self._root)}' not found")

    async def _leased(self, ttl_s: float | None, make: Any) -> bool:
        """Execute what `make` makes with a lease of this time to live; return whether its conditions held."""
        client = self.client
        while True:
            lease = 0 if ttl_s is None else await client.leases.lease_for(ttl_s)
            try:
                return (await client.store.kv_txn(make(lease))).succeeded
            except LeaseNotFound:
                client.leases.forget()  # it was revoked, or ended while the answer was under way

    def _key(self, key: Any, version: Any) -> bytes:
        made = f"{self._root}{self.make_and_validate_key(key, version=version)}"
        try:
            data = made.encode()
        except UnicodeEncodeError:
            raise InvalidCacheKey(f"the key {made!a} is not UTF-8 text") from None
        if len(data) > KEY_BYTES_MAX:
            raise InvalidCacheKey(f"the key {made[:80]!a}... is longer than {KEY_BYTES_MAX} bytes")
        return data

    def _written(self, data: Mapping[Any, Any], version: Any) -> dict[bytes, bytes]:
        named = {self._key(key, version): value for key, value in data.items()}
        return {name: encoded(name, value) for name, value in named.items()}

    def _ttl_s(self, timeout: Any) -> float | None:
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return None if timeout is None else float(timeout)

    def _run(self, call: Coroutine[Any, Any, T]) -> T:
        return self._closing(call, lambda: self.client).run(call)

    async def _arun(self, call: Coroutine[Any, Any, T]) -> T:
        return await self._closing(call, lambda: self.client).arun(call)

    def _closing(self, call: Coroutine[Any, Any, T], find: Any) -> Client:
        try:
            client: Client = find()
        except BaseException:
            call.close()
            raise
        return client

    def _shared(self, what: str, make: Any) -> Any:
        try:
            return shared(("django", what, *self._key_of_client), make)
        except (ConfigurationError, TypeError) as error:
            raise InvalidCacheBackendError(f"the cache at {self._where!r} cannot be used: {error}") from error


def _value(key: bytes, data: bytes | None, default: Any) -> Any:
    try:
        return default if data is None else decoded(key, data)
    except Missing:
        return default


def _values(names: Mapping[Any, bytes], found: Iterable[bytes | None]) -> dict[Any, Any]:
    pairs = zip(names.items(), found, strict=True)
    values = {key: _value(name, data, _NOTHING) for (key, name), data in pairs}
    return {key: value for key, value in values.items() if value is not _NOTHING}

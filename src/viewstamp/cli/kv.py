"""`viewstamp kv`: read and write the stock key/value service."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

from viewstamp.cli.failures import DONE, REFUSED, complain
from viewstamp.cli.flags import AsJson, ClusterFile, Flag, Servers, Timeout
from viewstamp.cli.output import quoted, show_json
from viewstamp.cli.target import CLUSTER_FILE, check_timeout, client_tls, client_token, locate
from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.blocking import BlockingClient
from viewstamp.runtime.proxies import Reads, make_proxy
from viewstamp.services.kv import PAGE_ITEMS_MAX, KeyValueStore

_VERSION_MAX: Final = (1 << 63) - 1
_READS_HELP: Final = "stale: ask one server, whatever it knows."


@contextmanager
def store_at(
    cluster: Path, servers: str | None, timeout: float, reads: Reads = "linearizable"
) -> Iterator[KeyValueStore]:
    """Connect, and give everything back at the end.

    As `viewstamp.connect_blocking` does, without importing the async client beside it.
    """
    client = BlockingClient(
        locate(cluster, servers),
        timeout_s=check_timeout(timeout),
        token=client_token(),
        tls=None if servers is None else client_tls(),
    )
    try:
        store: KeyValueStore = make_proxy(KeyValueStore, client, reads=reads)
        yield store
    finally:
        client.close()


def get(
    key: Annotated[str, Flag("The key.")],
    /,
    *,
    reads: Annotated[Reads, Flag(_READS_HELP)] = "linearizable",
    raw: Annotated[bool, Flag("Print the value's bytes alone.")] = False,
    json: AsJson = False,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Timeout = 10.0,
) -> int:
    """Print the value of a key, and its version. Exit code 1: there is no such key."""
    check_key(key)
    with store_at(cluster, servers, timeout, reads) as store:
        try:
            value, version = store.get(key)
        except KeyValueStore.raises as error:
            return refuse(error)
    if raw:
        sys.stdout.buffer.write(value)
    elif json:
        show_json(item_document(key, value, version))
    else:
        print(f"{shown(value)}  (version {version})")
    return DONE


def put(
    key: Annotated[str, Flag("The key.")],
    value: Annotated[str, Flag("The value; - reads it from standard input.", may_begin_with_hyphen=True)],
    /,
    *,
    if_version: Annotated[int | None, Flag("Only if the key has it; 0: only if it is new.")] = None,
    json: AsJson = False,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Timeout = 10.0,
) -> int:
    """Write a value. Exit code 1: the key has another version than --if-version says."""
    check_key(key, if_version)
    data = value_bytes(value)
    with store_at(cluster, servers, timeout) as store:
        try:
            version = store.set(key, data) if if_version is None else store.put(key, data, if_version)
        except KeyValueStore.raises as error:
            return refuse(error)
    tell({"key": key, "version": version}, f"version {version}", json=json)
    return DONE


def delete(
    key: Annotated[str, Flag("The key.")],
    /,
    *,
    if_version: Annotated[int | None, Flag("Only if the key has this version.")] = None,
    json: AsJson = False,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Timeout = 10.0,
) -> int:
    """Delete a key. Exit code 1: there was no such key, or it has another version."""
    check_key(key, if_version)
    with store_at(cluster, servers, timeout) as store:
        try:
            existed = store.delete(key, if_version)
        except KeyValueStore.raises as error:
            return refuse(error)
    tell({"key": key, "deleted": existed}, "deleted" if existed else "there was no such key", json=json)
    return DONE if existed else REFUSED


def list_range(
    prefix: Annotated[str, Flag("Keys that begin with this; all if empty.")] = "",
    /,
    *,
    limit: Annotated[int, Flag("At most this number of keys.")] = 1000,
    reads: Annotated[Reads, Flag(_READS_HELP)] = "linearizable",
    json: AsJson = False,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Timeout = 10.0,
) -> None:
    """Print keys with their versions and values, in order; with --json one object a line."""
    if prefix:
        check_key(prefix)
    if limit < 1:
        raise ConfigurationError(f"--limit {limit}: give 1 or more")
    with store_at(cluster, servers, timeout, reads) as store:
        for key, value, version in items(store, prefix, limit):
            if json:
                show_json(item_document(key, value, version))
            else:
                print(f"{quoted(key)}  {shown(value)}  (version {version})")


def items(store: KeyValueStore, prefix: str, limit: int) -> Iterator[tuple[str, bytes, int]]:
    """Yield up to `limit` items, page by page: each page is read at a moment of its own."""
    after, left, more = "", limit, True
    while more and left > 0:
        page = store.range(prefix, after, min(left, PAGE_ITEMS_MAX))
        for item in page.items:
            yield item.key, item.value, item.version
            after = item.key
        left -= len(page.items)
        more = page.more


def check_key(key: str, version: int | None = None) -> None:
    """Refuse a key that is not a text, or a version that no key can have, before anything is sent."""
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"the key {quoted(key)} is not UTF-8 text") from error
    if version is not None and abs(version) > _VERSION_MAX:
        raise ConfigurationError(f"--if-version {version}: no key has a version over {_VERSION_MAX}")


def value_bytes(value: str) -> bytes:
    """Return the bytes that were typed, whatever their encoding, or those of standard input."""
    if value == "-":
        return sys.stdin.buffer.read()
    return value.encode(errors="surrogateescape")


def shown(value: bytes) -> str:
    """Return a value so that it stays on one line and cannot steer a terminal."""
    try:
        return quoted(value.decode())
    except UnicodeDecodeError:
        return "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02x}" for byte in value)


def item_document(key: str, value: bytes, version: int) -> dict[str, Any]:
    """Return an item for JSON: `value` where it is text, `value_base64` where it is not."""
    try:
        return {"key": key, "value": value.decode(), "version": version}
    except UnicodeDecodeError:
        return {"key": key, "value_base64": value, "version": version}


def refuse(error: Exception) -> int:
    """Say why the service said no."""
    complain(str(error))
    return REFUSED


def tell(document: Any, text: str, *, json: bool) -> None:
    """Print a result for a program or for a person."""
    if json:
        show_json(document)
    else:
        print(text)

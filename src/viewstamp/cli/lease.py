"""`viewstamp kv lease`: leases of the store, for scripts."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from viewstamp.cli.failures import DONE, REFUSED, complain
from viewstamp.cli.kv import shown, tell
from viewstamp.cli.target import CLUSTER_FILE
from viewstamp.cli.watch import AsJson, ClusterFile, Servers, Timeout, coordination_at
from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.clients.lease_clock import ttl_ms
from viewstamp.core.errors import ConfigurationError
from viewstamp.services.store import CoordinationStore
from viewstamp.services.store.types import LEASE_MAX


def lease(
    what: Annotated[
        Literal["grant", "keep", "show", "revoke"],
        Parameter(help="Grant one, keep it alive once, show it, or end it and delete its keys."),
    ],
    number: Annotated[str, Parameter(help="Of grant the seconds that it lives; else the lease's number.")],
    /,
    *,
    json: AsJson = False,
    cluster: ClusterFile = Path(CLUSTER_FILE),
    servers: Servers = None,
    timeout: Timeout = 10.0,
) -> int:
    """Grant a lease, keep it alive, show or revoke it. Exit code 1: there is no such lease."""
    amount = _parsed(what, number)
    with coordination_at(cluster, servers, timeout) as client:
        try:
            document, text = _carried_out(client, what, amount)
        except CoordinationStore.raises as error:
            complain(str(error))
            return REFUSED
    tell(document, text, json=json)
    return DONE


def _parsed(what: str, number: str) -> int:
    """Return the milliseconds of a grant, or the number of a lease: exact, for it has up to 63 bits."""
    try:
        amount = ttl_ms(float(number)) if what == "grant" else int(number)
    except (ValueError, OverflowError):
        amount = -1
    if amount < 0 or amount > LEASE_MAX:
        kind = "a number of seconds" if what == "grant" else "the number of a lease"
        raise ConfigurationError(f"{number[:40]!a} is not {kind}; nothing was sent")
    return amount


def _carried_out(client: BlockingCoordination, what: str, one: int) -> tuple[dict[str, object], str]:
    if what == "grant":
        granted = client.grant(one)
        return {"lease": granted, "ttl_s": one / 1000}, str(granted)
    if what == "keep":
        ttl_s = client.keep_alive(one) / 1000
        return {"lease": one, "ttl_s": ttl_s}, f"lives for {ttl_s:g} s"
    if what == "revoke":
        return {"lease": one, "revision": client.revoke(one)}, "revoked"
    state = client.time_to_live(one)
    keys = [shown(key) for key in state.keys]
    left_s, ttl_s = state.left_ms / 1000, state.ttl_ms / 1000
    text = "\n".join([f"lives for {left_s:g} of {ttl_s:g} s", *keys])
    return {"lease": one, "ttl_s": ttl_s, "left_s": left_s, "keys": keys}, text

"""etcd's Lease service: grant, revoke, keepalive, timetolive, leases. Their time is that of the log."""

from typing import Final

from viewstamp.services.store.types import LeaseNotFound, LeaseState
from viewstamp.web.etcd.answers import Answer, encoded_keys, message
from viewstamp.web.etcd.call import Call
from viewstamp.web.etcd.messages import LeaseGrantRequest, LeaseRequest, Message
from viewstamp.web.etcd.refusals import OUT_OF_RANGE, Refusal

MS_PER_S: Final = 1_000
TTL_MAX_S: Final = 9_000_000_000
"""As with etcd; what the store takes may be less."""
_ENDED: Final = -1


async def grant(call: Call, request: LeaseGrantRequest) -> Answer:
    """Grant a lease, for a second at least."""
    if request.TTL > TTL_MAX_S:
        raise Refusal(OUT_OF_RANGE, "etcdserver: too large lease TTL")
    ttl_s = max(1, request.TTL)
    number = await call.store.lease_grant(ttl_s * MS_PER_S, request.ID)
    return message(header=call.header(), ID=number, TTL=ttl_s)


async def revoke(call: Call, request: LeaseRequest) -> Answer:
    """End a lease and delete its keys."""
    revision = await call.store.lease_revoke(request.ID)
    return message(header=call.header(revision))


async def keep_alive(call: Call, request: LeaseRequest) -> Answer:
    """Let a lease live for its time from now on; without `TTL` in the answer it has ended."""
    try:
        ttl_ms = await call.store.lease_keep_alive(request.ID)
    except LeaseNotFound:
        return {"result": message(header=call.header(), ID=request.ID)}
    return {"result": message(header=call.header(), ID=request.ID, TTL=max(1, ttl_ms // MS_PER_S))}


async def time_to_live(call: Call, request: LeaseRequest) -> Answer:
    """Tell how long a lease lives without another sign; -1: it has ended."""
    try:
        state: LeaseState = await call.store.lease_time_to_live(request.ID, request.keys)
    except LeaseNotFound:
        return message(header=call.header(), ID=request.ID, TTL=_ENDED)
    found = message(
        header=call.header(),
        ID=request.ID,
        TTL=state.left_ms // MS_PER_S,
        grantedTTL=max(1, state.ttl_ms // MS_PER_S),
    )
    return found | ({"keys": encoded_keys(state.keys)} if state.keys else {})


async def leases(call: Call, request: Message) -> Answer:
    """List the caller's leases."""
    del request
    numbers: list[int] = []
    while page := await call.store.lease_leases(numbers[-1] if numbers else 0):
        numbers += page
    return message(header=call.header(), leases=[message(ID=number) for number in numbers])

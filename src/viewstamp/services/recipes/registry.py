"""A registry of services: which instances there are, where they are found. An instance lives as its session.

With a time to live it must be registered again within that log time as well: so a process that still speaks
to the cluster but no longer does its work goes out of the list.
"""

from collections.abc import Collection, Iterable
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any, ClassVar, Final

import msgspec

from viewstamp.machine.state_machine import command, query
from viewstamp.services.locks import InvalidName, NoSession
from viewstamp.services.recipes.alarm_heap import Alarms
from viewstamp.services.recipes.names import (
    PAGE_MAX,
    Ask,
    Claimed,
    Key,
    Released,
    TooLarge,
    TooMany,
    check,
    check_sequence,
    no_session,
    quoted,
)
from viewstamp.services.recipes.watchers import Watched

TTL_MS_MAX: Final = 366 * 86_400_000
_MOVED_MAX: Final = 100
_STALE_MAX: Final = 64


class Replaced(Exception):
    """Another client registered an instance of this name since. Nothing was changed."""


class RegistryLimits(msgspec.Struct, frozen=True):
    """What one registry bears. Equal on all members: a refusal is a result like any other."""

    services_max: int = 100_000
    instances_max: int = 10_000
    """Instances of one service."""
    instances_per_client_max: int = 1_000


class Instance(msgspec.Struct):
    """An instance as the registry keeps it."""

    owner: Key
    value: bytes
    label: str
    token: int
    since: int
    until: int = 0
    """End of its time to live in log time; 0: that of its session."""


class Service(msgspec.Struct):
    """A service with its instances."""

    instances: dict[str, Instance] = {}
    ends: list[tuple[int, str, int]] = []
    """A heap of (end, instance, token); some are too early, or of instances that are gone."""


class Found(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An instance as it is found."""

    instance: str
    value: bytes
    """What it published: where it is found, and what else."""
    token: int
    """Fencing token of its registration."""
    label: str
    since: int


class Instances(msgspec.Struct, frozen=True, array_like=True):
    """Part of a service, in the order of registration."""

    service: str
    found: list[Found]
    more: bool
    """There is more: ask again with a larger limit, at most 1,000."""


class RegistryService(Watched, Alarms):
    """Named services with named instances."""

    raises: ClassVar[tuple[type[Exception], ...]] = (InvalidName, NoSession, TooMany, TooLarge, Replaced)
    limits: ClassVar[RegistryLimits] = RegistryLimits()
    recipe: ClassVar[str] = "registry"
    services: dict[str, Service] = {}  # noqa: RUF012  StateMachine copies the default for each instance
    clients: dict[int, dict[tuple[str, int], str]] = {}  # noqa: RUF012
    """Of each client its claims, service and number, with the instance."""

    @command(keys=("service",))
    def register(
        self,
        service: str,
        sequence: int,
        instance: str,
        value: bytes = b"",
        ttl_ms: int = 0,
        label: str = "",
    ) -> Claimed:
        """List an instance under a number of the caller's choosing, new for each claim.

        The same number again publishes the value and renews the time to live. An instance of this name that
        another client has is replaced: it may be the one that was killed a moment ago.

        Raises:
            Replaced: it was registered under this number before, and another client has replaced it.
            InvalidName, NoSession, TooMany, TooLarge: see there.
        """
        key = self._caller(sequence)
        check(service, label, value)
        check(instance)
        if not 0 <= ttl_ms <= TTL_MS_MAX:
            raise TooLarge(f"a time to live is from 0 to {TTL_MS_MAX} ms: nothing was changed")
        found = self.services.get(service)
        known = None if found is None else found.instances.get(instance)
        if known is not None and known.owner != key:
            self._replace(service, key, known, instance)
            known = None
        if known is None:
            known = self._listed(service, key, instance, label)
        known.value = value
        self._live(self.services[service], instance, known, ttl_ms)
        self._expire(service)
        self.tell(service)
        return Claimed("granted", known.token)

    @command(keys=("service",), frees=True)
    def deregister(self, service: str, sequence: int) -> Released:
        """Take an instance out of the list. May be repeated."""
        key = self._caller(sequence)
        mine = self.clients.get(key[0], {})
        instance = mine.pop((service, sequence), None)
        if not mine:
            self.clients.pop(key[0], None)
        if instance is None:
            return "unknown"
        return "released" if self._unlist(service, instance, key) else "withdrawn"

    @command(keys=("service",))
    def observe(self, service: str) -> Instances:
        """Return the instances, and from now on tell the caller's session when they change.

        Raises:
            InvalidName, NoSession, TooMany: see there.
        """
        self.watch(service)
        self._expire(service)
        return self.instances(service)

    @command(keys=("service",), frees=True)
    def ignore(self, service: str) -> None:
        """Tell the caller no more. May be repeated."""
        self.unwatch(service)

    @query(keys=("service",))
    def instances(self, service: str, limit: int = 100) -> Instances:
        """Return up to `limit` (1,000 at most) of the instances that live."""
        now, limit = int(self.context.now), max(0, min(limit, PAGE_MAX))
        known = self.services[service].instances if service in self.services else {}
        living = ((name, one) for name, one in known.items() if not 0 < one.until <= now)
        found = [
            Found(name, one.value, one.token, one.label, one.since) for name, one in islice(living, limit + 1)
        ]
        return Instances(service, found[:limit], more=len(found) > limit)

    def session_ended(self, client: int) -> None:
        """Take the instances of this client out."""
        self.watcher_ended(client)
        for (service, sequence), instance in self.clients.pop(client, {}).items():
            self._unlist(service, instance, (client, sequence))

    def pending_notifications(self) -> Iterable[tuple[int, Any]]:
        """Return what every client that watches may have missed."""
        return self.pending_notifications_for(self.watched)

    def pending_notifications_for(self, clients: Collection[int]) -> Iterable[tuple[int, Any]]:
        """Return what these clients may have missed."""
        return self.untold(clients)

    def _caller(self, sequence: int) -> Key:
        if not self.context.session:
            raise no_session()
        check_sequence(sequence)
        return self.context.client, sequence

    def _replace(self, service: str, key: Key, known: Instance, instance: str) -> None:
        """Make room for another owner; raise `Replaced` where the caller is the one that was replaced."""
        if self.clients.get(key[0], {}).get((service, key[1])) == instance:
            raise Replaced(f"the instance {quoted(instance)} of {quoted(service)} is another client's now")
        self.context.notify(known.owner[0], Ask(self.recipe, service, known.owner[1]))
        del self.services[service].instances[instance]

    def _listed(self, service: str, key: Key, instance: str, label: str) -> Instance:
        mine = self.clients.get(key[0], {})
        if (service, key[1]) not in mine and len(mine) >= self.limits.instances_per_client_max:
            raise TooMany(f"a client may register {self.limits.instances_per_client_max} instances")
        found = self.services.get(service)
        if found is None and len(self.services) >= self.limits.services_max:
            raise TooMany(f"there are {self.limits.services_max} services, as many as may be")
        if found is not None and len(found.instances) >= self.limits.instances_max:
            raise TooMany(f"a service has up to {self.limits.instances_max} instances")
        before = mine.get((service, key[1]), instance)
        if before != instance:
            self._unlist(service, before, key)
        self.clients.setdefault(key[0], {})[service, key[1]] = instance
        context = self.context
        one = Instance(key, b"", label, context.token, int(context.now))
        self.services.setdefault(service, Service()).instances[instance] = one
        return one

    def _live(self, service: Service, instance: str, one: Instance, ttl_ms: int) -> None:
        one.until = int(self.context.now) + ttl_ms * 1_000 if ttl_ms else 0
        if one.until:
            heappush(service.ends, (one.until, instance, one.token))
        if len(service.ends) > 2 * len(service.instances) + _STALE_MAX:
            service.ends = [(at.until, name, at.token) for name, at in service.instances.items() if at.until]
            heapify(service.ends)

    def look_at_due(self, name: str) -> None:
        """Take out instances whose time to live is over."""
        self._expire(name)

    def _expire(self, name: str) -> None:
        """Take out instances whose time to live is over."""
        now = int(self.context.now)
        for _ in range(_MOVED_MAX):
            service = self.services.get(name)
            if service is None or not service.ends or service.ends[0][0] > now:
                break
            until, instance, token = heappop(service.ends)
            one = service.instances.get(instance)
            if one is not None and (one.until, one.token) == (until, token):
                self._unlist(name, instance, one.owner)
        service = self.services.get(name)
        self.set_alarm(name, service.ends[0][0] if service is not None and service.ends else None)

    def _unlist(self, name: str, instance: str, owner: Key) -> bool:
        """Take an instance out of the list, if it still has this owner."""
        service = self.services.get(name)
        if service is None or instance not in service.instances:
            return False
        if service.instances[instance].owner != owner:
            return False
        del service.instances[instance]
        if not service.instances:
            del self.services[name]
            self.set_alarm(name, None)
        self.tell(name)
        return True

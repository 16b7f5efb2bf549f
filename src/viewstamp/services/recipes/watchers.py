"""Clients that are told when something of a name changes, as long as their sessions live."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final

from viewstamp.machine.state_machine import StateMachine
from viewstamp.services.recipes.names import Changed, TooMany, check, no_session

WATCHERS_MAX: Final = 1_000
"""Of one name: as many as one change tells."""
WATCHED_MAX: Final = 1_000
"""Names that one client watches."""


class Watched(StateMachine):
    """What services share that tell others of changes. Not a service itself."""

    recipe: ClassVar[str] = ""
    """What its notices are marked with."""
    watchers: dict[str, dict[int, None]] = {}  # noqa: RUF012  StateMachine copies the default
    watched: dict[int, dict[str, None]] = {}  # noqa: RUF012
    """The same by client."""

    def watch(self, name: str) -> None:
        """Let the caller be told of changes of this name.

        Raises:
            TooMany: as many clients watch the name, or this one watches as many, as may be.
            NoSession, InvalidName: see there.
        """
        check(name)
        client = self.context.client
        if not self.context.session:
            raise no_session()
        told, mine = self.watchers.get(name, {}), self.watched.get(client, {})
        if client in told:
            return
        if len(told) >= WATCHERS_MAX or len(mine) >= WATCHED_MAX:
            raise TooMany(
                f"up to {WATCHERS_MAX} clients watch a name, and a client watches up to {WATCHED_MAX}: "
                "ask from time to time instead"
            )
        self.watchers.setdefault(name, {})[client] = None
        self.watched.setdefault(client, {})[name] = None

    def unwatch(self, name: str) -> None:
        """Let the caller be told no more. May be repeated."""
        client = self.context.client
        mine = self.watched.get(client, {})
        if mine.pop(name, "") is None:
            self._forget(name, client)
        if not mine:
            self.watched.pop(client, None)

    def tell(self, name: str) -> None:
        """Something of this name changed."""
        for client in self.watchers.get(name, ()):
            self.context.notify(client, Changed(self.recipe, name))

    def watcher_ended(self, client: int) -> None:
        """The session of a client ended."""
        for name in self.watched.pop(client, {}):
            self._forget(name, client)

    def untold(self, clients: Iterable[int]) -> Iterator[tuple[int, Any]]:
        """Yield what these clients may have missed."""
        for client in sorted(clients):
            for name in self.watched.get(client, ()):
                yield client, Changed(self.recipe, name)

    def _forget(self, name: str, client: int) -> None:
        told = self.watchers[name]
        del told[client]
        if not told:
            del self.watchers[name]

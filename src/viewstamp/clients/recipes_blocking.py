"""Recipes for threads: the same client, whose loop runs in a thread of its own."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Self, TypeVar, cast

from viewstamp.clients.held_claim import ClaimLost, Guard, HeldClaim, Standing
from viewstamp.clients.loop_thread import LoopThread
from viewstamp.clients.queues import HeldItem, Queue
from viewstamp.clients.recipes import HeldWrite, Recipes, Term
from viewstamp.clients.registrations import Registration
from viewstamp.core.errors import NotExecuted, OutcomeUnknown
from viewstamp.services.recipes.countdowns import CountdownState
from viewstamp.services.recipes.counters import Count
from viewstamp.services.recipes.elections import ElectionState
from viewstamp.services.recipes.queue_messages import ItemPage, NotTaken, Put, QueueState, TakenItem
from viewstamp.services.recipes.registry import Instances

T = TypeVar("T")
H = TypeVar("H", bound=HeldClaim)


class BlockingHeld(Generic[H]):
    """Something that was granted, for threads."""

    def __init__(self, thread: LoopThread, held: H) -> None:
        self._thread = thread
        self.held = held
        """The same for tasks of the client's loop."""
        self.lost = threading.Event()
        """Set as soon as it is doubtful or lost: a thread cannot be cancelled, so let it look at this."""
        held.on_change(self._changed)
        if not held.certain:
            self.lost.set()

    @property
    def name(self) -> str:
        """What is held."""
        return self.held.name

    @property
    def token(self) -> int:
        """The fencing token."""
        return self.held.token

    @property
    def standing(self) -> Standing:
        """What is known of it now: see `HeldClaim.standing`."""
        return self.held.standing

    def raise_if_lost(self) -> None:
        """Raise `ClaimLost` unless it is held for certain. Call it before what cannot be undone."""
        self.held.raise_if_lost()

    def release(self) -> None:
        """Give it back, and wait until the cluster has confirmed that. May be repeated."""
        if not self._thread.ended:  # closing gave it back
            self._thread.run(self.held.given_back())

    def _changed(self, standing: Standing) -> None:
        if standing in {"doubtful", "lost"}:
            self.lost.set()


class BlockingWrite(BlockingHeld[HeldWrite]):
    """A read-write lock that is held to write."""

    def downgrade(self) -> None:
        """Go on reading, without a moment at which another may write."""
        self._thread.run(self.held.downgrade())


class BlockingTerm(BlockingHeld[Term]):
    """The time for which this process is elected."""

    def proclaim(self, value: bytes) -> None:
        """Publish something else, with this term's token."""
        self._thread.run(self.held.proclaim(value))


class BlockingItem(BlockingHeld[HeldItem]):
    """An item that this process has taken."""

    @property
    def item(self) -> TakenItem:
        """The item."""
        return self.held.item

    @property
    def body(self) -> bytes:
        """What was put."""
        return self.held.body

    def ack(self) -> None:
        """Remove the item: it is done. Raises `NotTaken` where another may have it."""
        self._thread.run(self.held.ack())

    def fail(self, reason: str = "", *, delay_s: float | None = None, bury: bool = False) -> bool:
        """Give the item back because it could not be done; return whether it is a dead letter now."""
        return self._thread.run(self.held.fail(reason, delay_s=delay_s, bury=bury))

    def extend(self) -> None:
        """Let the lease begin again."""
        self._thread.run(self.held.extend())


class BlockingQueue:
    """One queue, for threads."""

    def __init__(self, thread: LoopThread, queue: Queue) -> None:
        self._thread = thread
        self._queue = queue

    def put(self, body: bytes, *, id: str = "", key: str = "", delay_s: float = 0.0) -> Put:  # noqa: A002
        """Put an item (`Queue.put`)."""
        return self._thread.run(self._queue.put(body, id=id, key=key, delay_s=delay_s))

    @contextmanager
    def take(self, *, lease_s: float | None = None, timeout_s: float | None = None) -> Iterator[BlockingItem]:
        """Take the next item for a block, which acknowledges it at its end and gives it back on an error."""
        guard = self._queue.take(lease_s=lease_s, timeout_s=timeout_s, on_loss="ignore")
        item = BlockingItem(self._thread, self._thread.run(guard))
        try:
            yield item
        except Exception as error:
            self._give_up(item, f"{type(error).__name__}: {error}")
            raise
        except BaseException:
            item.release()
            raise
        if item.standing != "released":
            item.ack()

    def configure(
        self,
        *,
        attempts_max: int = 5,
        backoff_s: float = 0.0,
        items_max: int = 100_000,
        dedupe_s: float = 3_600.0,
    ) -> QueueState:
        """Set what holds for this queue."""
        return self._thread.run(
            self._queue.configure(
                attempts_max=attempts_max, backoff_s=backoff_s, items_max=items_max, dedupe_s=dedupe_s
            )
        )

    def state(self) -> QueueState:
        """Return how many items are where."""
        return self._thread.run(self._queue.state())

    def items(self, after: int = 0, limit: int = 100) -> ItemPage:
        """Return items without their bodies, page by page."""
        return self._thread.run(self._queue.items(after, limit))

    def _give_up(self, item: BlockingItem, reason: str) -> None:
        try:
            if item.standing != "released":
                item.fail(reason)
        except (NotTaken, NotExecuted, OutcomeUnknown):
            item.release()


class BlockingRecipes:
    """The recipes of a cluster, shared by all threads of this process that use this object.

    As `Recipes`, without async. A thread cannot be cancelled: what is held in a block is looked at when the
    block ends, and `ClaimLost` is raised where it was doubtful or lost meanwhile. Before something that
    cannot be undone call `raise_if_lost`, or wait for `held.lost`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Find the cluster; the arguments are those of `Recipes`.

        Raises:
            ConfigurationError: `where` names no cluster, or a setting makes no sense.
            NotExecuted: only addresses were given, and none of them answered in time.
        """
        self._recipes = Recipes(*args, **kwargs)
        self._thread = LoopThread("viewstamp-recipes")
        self._closed = False
        try:
            self._thread.run(self._recipes.start())
        except BaseException:
            self._thread.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back and end the session. May be repeated."""
        if not self._closed:
            self._closed = True
            self._thread.close(self._recipes.close)

    @contextmanager
    def lock(self, name: str, *, timeout_s: float | None = None) -> Iterator[BlockingHeld[HeldClaim]]:
        """Hold a lock for a block."""
        with self._held(self._recipes.lock(name, timeout_s=timeout_s), BlockingHeld) as held:
            yield held

    @contextmanager
    def read(self, name: str, *, timeout_s: float | None = None) -> Iterator[BlockingHeld[HeldClaim]]:
        """Hold a read-write lock together with other readers."""
        with self._held(self._recipes.read(name, timeout_s=timeout_s), BlockingHeld) as held:
            yield held

    @contextmanager
    def write(self, name: str, *, timeout_s: float | None = None) -> Iterator[BlockingWrite]:
        """Hold a read-write lock alone."""
        with self._held(self._recipes.write(name, timeout_s=timeout_s), BlockingWrite) as held:
            yield held

    @contextmanager
    def semaphore(
        self, name: str, permits: int | None = None, *, weight: int = 1, timeout_s: float | None = None
    ) -> Iterator[BlockingHeld[HeldClaim]]:
        """Hold `weight` of the `permits` of a semaphore."""
        guard = self._recipes.semaphore(name, permits, weight=weight, timeout_s=timeout_s)
        with self._held(guard, BlockingHeld) as held:
            yield held

    def resize(self, name: str, permits: int) -> None:
        """Set how many permits a semaphore has."""
        self._thread.run(self._recipes.resize(name, permits))

    @contextmanager
    def election(
        self, name: str, *, value: bytes = b"", priority: int = 0, timeout_s: float | None = None
    ) -> Iterator[BlockingTerm]:
        """Be elected for a block."""
        guard = self._recipes.election(name, value=value, priority=priority, timeout_s=timeout_s)
        with self._held(guard, BlockingTerm) as held:
            yield held

    def leader(self, name: str) -> ElectionState:
        """Return who is elected."""
        return self._thread.run(self._recipes.leader(name))

    def elected(self, name: str) -> Generator[ElectionState]:
        """Yield who is elected, now and whenever that changes."""
        return self._each(lambda: self._recipes.elected(name))

    def changes(self, service: str) -> Generator[Instances]:
        """Yield the instances of a service, now and whenever they change."""
        return self._each(lambda: self._recipes.changes(service))

    def barrier(self, name: str, parties: int, *, timeout_s: float | None = None) -> int:
        """Wait until this number of parties waits here, and return the round's token."""
        return self._thread.run(self._recipes.barrier(name, parties, timeout_s=timeout_s))

    def start_countdown(self, name: str, count: int, *, replace: bool = False) -> CountdownState:
        """Begin a countdown."""
        return self._thread.run(self._recipes.countdown(name).start(count, replace=replace))

    def arrive(self, name: str, times: int = 1, *, generation: int = 0) -> CountdownState:
        """Take a countdown down."""
        return self._thread.run(self._recipes.countdown(name).arrive(times, generation=generation))

    def wait_for_zero(self, name: str, *, generation: int = 0, timeout_s: float | None = None) -> int:
        """Wait until a countdown comes to zero, and return the token of that moment."""
        waiting = self._recipes.countdown(name).wait(generation=generation, timeout_s=timeout_s)
        return self._thread.run(waiting)

    def queue(self, name: str) -> BlockingQueue:
        """Return a queue of items that are taken under a lease."""
        return BlockingQueue(self._thread, self._recipes.queue(name))

    def add(self, name: str, amount: int = 1, **bounds: int | None) -> Count:
        """Add to a counter; `at_least` and `at_most` are bounds (`Counter.add`)."""
        return self._thread.run(self._recipes.counter(name).add(amount, **bounds))

    def count(self, name: str) -> int:
        """Return the value of a counter."""
        return self._thread.run(self._recipes.counter(name).get())

    def try_take(
        self, name: str, rate: int, *, per_s: float = 1.0, burst: int | None = None, cost: int = 1
    ) -> float:
        """Take out of a rate limit and return 0; or take nothing, and return how many seconds to wait."""
        return self._thread.run(self._recipes.rate(name, rate, per_s=per_s, burst=burst).try_take(cost))

    @contextmanager
    def registered(
        self, service: str, instance: str, value: bytes = b"", *, ttl_s: float | None = None
    ) -> Iterator[Registration]:
        """Be listed as an instance of a service, for a block."""
        registration = self._recipes.registered(service, instance, value, ttl_s=ttl_s)
        self._thread.run(registration.__aenter__())
        try:
            yield registration
        finally:
            if not self._thread.ended:  # closing gave it back
                self._thread.run(registration.__aexit__())

    def instances(self, service: str, limit: int = 100) -> Instances:
        """Return the instances of a service."""
        return self._thread.run(self._recipes.instances(service, limit))

    @contextmanager
    def _held(self, guard: Guard[H], make: Callable[[LoopThread, H], T]) -> Iterator[T]:
        blocking = make(self._thread, self._thread.run(guard))
        held = cast("BlockingHeld[H]", blocking)
        try:
            yield blocking
        finally:
            standing, was_lost = held.standing, held.lost.is_set()
            held.release()
        if was_lost:
            raise ClaimLost(held.held.what, held.name, held.token, standing)

    def _each(self, begin: Callable[[], Any]) -> Generator[Any]:
        async def first() -> Any:
            return begin()

        steps = self._thread.run(first())
        try:
            while True:
                yield self._thread.run(anext(steps))
        finally:
            self._thread.run(steps.aclose())

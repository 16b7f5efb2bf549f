"""The machine of the stock server: the keys of the coordination store, with the locks and other recipes.

The methods of the store keep their own names, so that its clients see no difference; those of the other parts
are called `locks.acquire` and so on.
"""

from typing import Final

from viewstamp.machine.state_machine import StateMachine, compose
from viewstamp.services.locks import LockService
from viewstamp.services.recipes.barriers import BarrierService
from viewstamp.services.recipes.countdowns import CountdownService
from viewstamp.services.recipes.counters import CounterService
from viewstamp.services.recipes.elections import ElectionService
from viewstamp.services.recipes.queues import QueueService
from viewstamp.services.recipes.rates import RateService
from viewstamp.services.recipes.registry import RegistryService
from viewstamp.services.recipes.rwlocks import ReadWriteLockService
from viewstamp.services.recipes.semaphores import SemaphoreService
from viewstamp.services.store.stock_store import StockStore

RECIPES: Final[dict[str, type[StateMachine]]] = {
    "semaphores": SemaphoreService,
    "rwlocks": ReadWriteLockService,
    "elections": ElectionService,
    "barriers": BarrierService,
    "countdowns": CountdownService,
    "queues": QueueService,
    "registry": RegistryService,
    "counters": CounterService,
    "rates": RateService,
}
"""The recipes beside the locks, by their names as parts. `compose(Mine, locks=LockService, **RECIPES)` adds
them to a class of one's own."""

StockService: Final[type[StateMachine]] = compose(StockStore, locks=LockService, **RECIPES)
StockService.__name__ = StockService.__qualname__ = "KeyValueStoreAndLockService"
"""Its name in data directories, from the time when the keys were those of `services.kv`."""

"""The machine of the stock server: the keys of the coordination store, and the locks beside them.

The methods of the store keep their own names, so that its clients see no difference; those of the locks are
called `locks.acquire` and so on.
"""

from typing import Final

from viewstamp.machine.state_machine import StateMachine, compose
from viewstamp.services.locks import LockService
from viewstamp.services.store.stock_store import StockStore

StockService: Final[type[StateMachine]] = compose(StockStore, locks=LockService)
StockService.__name__ = StockService.__qualname__ = "KeyValueStoreAndLockService"
"""Its name in data directories, from the time when the keys were those of `services.kv`."""

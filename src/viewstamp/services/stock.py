"""The machine of the stock server: the key/value store, and the locks beside it.

The methods of the store keep their own names, so that its clients see no difference; those of the locks are
called `locks.acquire` and so on.
"""

from typing import Final

from viewstamp.machine.state_machine import StateMachine, compose
from viewstamp.services.kv import KeyValueStore
from viewstamp.services.locks import LockService

StockService: Final[type[StateMachine]] = compose(KeyValueStore, locks=LockService)

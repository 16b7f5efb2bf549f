"""Tokens for the clients of a run: short-lived, shown in each hello, and now and then one that is refused.

A grant names the clients alone, so that a call for which no token was verified would be denied, and the
history would show it. Connections end with their tokens in the middle of everything.
"""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from random import Random
from typing import Final

from viewstamp.core.principals import LOCAL_OPERATOR
from viewstamp.replica.authorization import Grant
from viewstamp.runtime.system import utc_now
from viewstamp.runtime.tokens import KEY_BYTES, TokenConfig, issue, new_key, public_text

LIFETIME_MAX_S: Final = 5
GRANTS: Final = (
    Grant(principal="client/user-*", methods=("*",)),
    Grant(principal=LOCAL_OPERATOR, methods=("*",)),
)
_WRONG: Final = 0.2
"""The share of tokens that are refused."""


class Tokens:
    """The issuer of the tokens of a run."""

    def __init__(self, rng: Random, cluster_id: str) -> None:
        """Draw the key.

        Raises:
            ConfigurationError: `pyseto` is not installed.
        """
        self._rng = rng
        self._cluster_id = cluster_id
        self._key = new_key(rng.randbytes(KEY_BYTES))
        self._other_key = new_key(rng.randbytes(KEY_BYTES))
        self.config = TokenConfig(keys=(public_text(self._key),), lifetime_max_s=LIFETIME_MAX_S)
        """What the members accept."""
        self.counts: Counter[str] = Counter()

    def of(self, number: int) -> Callable[[], str]:
        """Return what a client asks for its token, for each connection."""
        return lambda: self._next(f"user-{number}")

    def _next(self, name: str) -> str:
        rng, key, cluster_id, now = self._rng, self._key, self._cluster_id, utc_now()
        lifetime = timedelta(seconds=rng.randint(2, LIFETIME_MAX_S))
        if rng.random() >= _WRONG:
            self.counts["token issued"] += 1
            return issue(key, name, cluster_id, now, lifetime)
        self.counts["token to be refused"] += 1
        wrong = rng.randrange(5)
        if wrong == 0:
            key = self._other_key
        elif wrong == 1:
            cluster_id = "another"
        elif wrong == 2:
            now -= timedelta(seconds=2 * LIFETIME_MAX_S)
        elif wrong == 3:
            now += timedelta(days=1)
        else:
            lifetime = timedelta(days=1)
        return issue(key, name, cluster_id, now, lifetime)

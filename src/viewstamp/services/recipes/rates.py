"""Rate limits: GCRA in log time.

The generic cell rate algorithm (ITU-T I.371, the leaky bucket as a meter) keeps one number for each name: the
theoretical arrival time, up to which the allowance is used up. A cost of n moves it on by n emission
intervals; what would move it further ahead than the burst allows is told how long to wait, and changes
nothing. Log time stands still while nobody leads: then nobody is served, and nothing is gained either.
"""

from typing import ClassVar, Final

import msgspec

from viewstamp.machine.state_machine import StateMachine, command, query
from viewstamp.services.locks import InvalidName
from viewstamp.services.recipes.names import TooLarge, TooMany, check

LIMITS_MAX: Final = 1_000_000
RATE_MAX: Final = 1_000_000_000
PERIOD_MS_MAX: Final = 366 * 86_400_000
SPAN_US_MAX: Final = 1_000 * 366 * 86_400_000_000
_FORGOTTEN_PER_CALL: Final = 2


class Taken(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a `try_take` was answered."""

    wait_us: int
    """0: it was taken. Otherwise nothing was, and after this time it would be."""
    token: int
    """Fencing token of the command; 0 where nothing was taken."""


class RateService(StateMachine):
    """Named rate limits. What is at rest is forgotten: that changes no answer."""

    raises: ClassVar[tuple[type[Exception], ...]] = (InvalidName, TooMany, TooLarge)
    used_up_to: dict[str, int] = {}  # noqa: RUF012  StateMachine copies the default for each instance
    """Theoretical arrival time in microseconds of log time."""

    @command(keys=("name",))
    def try_take(
        self, name: str, cost: int = 1, rate: int = 1, period_ms: int = 1_000, burst: int = 1
    ) -> Taken:
        """Take `cost` out of an allowance of `rate` in `period_ms`, of which `burst` may be taken at once.

        Raises:
            TooLarge: the cost is above the burst, or a number is out of range.
            InvalidName, TooMany: see there.
        """
        check(name)
        _check_limit(cost, rate, period_ms, burst)
        now = int(self.context.now)
        self._forget(now)
        if name not in self.used_up_to and len(self.used_up_to) >= LIMITS_MAX:
            # viewstamp: allow VS013 what is at rest was forgotten, which changes no answer
            raise TooMany(f"{LIMITS_MAX} limits are in use, as many as may be: try again later")
        after = max(self.used_up_to.get(name, 0), now) + _micros(cost, rate, period_ms)
        wait = after - now - _micros(burst, rate, period_ms)
        if wait > 0:
            return Taken(wait, 0)
        self.used_up_to.pop(name, None)
        self.used_up_to[name] = after
        return Taken(0, self.context.token)

    @command(keys=("name",), frees=True)
    def forget(self, name: str) -> bool:
        """Give back the whole allowance; return whether any of it was used."""
        return self.used_up_to.pop(name, None) is not None

    @query(keys=("name",))
    def used(self, name: str) -> int:
        """Return in how many microseconds the whole allowance is there again."""
        return max(0, self.used_up_to.get(name, 0) - int(self.context.now))

    def _forget(self, now: int) -> None:
        """Forget what is at rest, two names a call, in turn."""
        for _ in range(_FORGOTTEN_PER_CALL):
            name = next(iter(self.used_up_to), None)
            if name is None:
                return
            until = self.used_up_to.pop(name)
            if until > now:
                self.used_up_to[name] = until


def _check_limit(cost: int, rate: int, period_ms: int, burst: int) -> None:
    if not (0 < rate <= RATE_MAX and 0 < period_ms <= PERIOD_MS_MAX and 0 < burst <= RATE_MAX):
        raise TooLarge(f"a rate and a burst are from 1 to {RATE_MAX}, a period from 1 to {PERIOD_MS_MAX} ms")
    if _micros(burst, rate, period_ms) > SPAN_US_MAX:
        raise TooLarge(
            "so large a burst at so low a rate is allowed again in a thousand years: nothing was taken"
        )
    if not 0 < cost <= burst:
        raise TooLarge(f"a cost is from 1 to the burst, {burst}, not {cost}: nothing was taken")


def _micros(amount: int, rate: int, period_ms: int) -> int:
    """Return how long it takes until this amount is allowed again, rounded up."""
    return -(-amount * period_ms * 1_000 // rate)

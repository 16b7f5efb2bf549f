"""When TCP sends again over one connection what a cut network has swallowed: after waits that double."""

from typing import Final

_FIRST_WAIT_US: Final = 200_000
"""Linux's least time-out of retransmission."""


class Retransmission:
    """What waits on one connection to be acknowledged."""

    __slots__ = ("_next_at", "_since", "_wait_us")

    def __init__(self) -> None:
        self._since: int | None = None
        """When the first of what waits was sent; None: nothing waits."""
        self._next_at = 0
        """When it is sent again."""
        self._wait_us = 0

    def passes(self, now_us: int, *, is_cut: bool) -> bool:
        """Send something; return whether it arrives soon. What comes after a loss waits behind it."""
        if self._since is None and is_cut:
            self._since, self._wait_us = now_us, _FIRST_WAIT_US
            self._next_at = now_us + self._wait_us
        return self.silent_us(now_us, is_cut=is_cut) == 0

    def silent_us(self, now_us: int, *, is_cut: bool) -> int:
        """Return for how long the other machine has acknowledged nothing; 0: nothing waits for that."""
        while self._since is not None and self._next_at <= now_us:
            if not is_cut:
                self._since = None
                return 0
            self._wait_us *= 2
            self._next_at += self._wait_us
        return 0 if self._since is None else max(1, now_us - self._since)

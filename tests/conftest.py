"""What holds for all tests: Hypothesis draws the same examples in each run, and times none.

`--hypothesis-profile=search` draws new ones. What it finds is planted with `@example` before it is mended.
"""

from hypothesis import HealthCheck, settings

_TIMED = [HealthCheck.too_slow]
"""A machine that does other work too is no reason to fail."""

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, suppress_health_check=_TIMED
)
settings.register_profile("search", deadline=None, suppress_health_check=_TIMED)
settings.load_profile("repeatable")

"""What the command line of pytest says of all disasters of one session."""

import msgspec


class Settings(msgspec.Struct):
    """Set by the plugin; None: what the test itself says."""

    seeds: int | None = None
    seed: int | None = None
    """Only this one."""
    seconds: float | None = None
    pythons: tuple[str, ...] = ()


_SETTINGS = Settings()


def settings() -> Settings:
    """Return the settings of this session."""
    return _SETTINGS

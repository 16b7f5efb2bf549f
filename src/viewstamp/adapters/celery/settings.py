"""What the adapter reads of a Celery app's configuration, and the client that is made of it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from celery.exceptions import ImproperlyConfigured

from viewstamp.adapters.shared import forget, shared
from viewstamp.clients.coordination_blocking import BlockingCoordination
from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.config import ClusterConfig
from viewstamp.runtime.discovery import Where, locate

TTL_S: Final = 5.0
TTL_S_MIN: Final = 0.5
KEEP_S: Final = 3_600.0


class Settings:
    """The settings `viewstamp_*` of an app, checked."""

    def __init__(self, conf: Mapping[str, Any]) -> None:
        """Read them.

        Raises:
            ImproperlyConfigured: one is missing or makes no sense. Nothing was started.
        """
        where = conf.get("viewstamp_where")
        if not where or not isinstance(where, str | Path | ClusterConfig | list | tuple):
            _refuse("viewstamp_where names a cluster file, or the address of a member or several")
        try:
            locate(where)
        except ConfigurationError as error:
            _refuse(f"viewstamp_where: {error}")
        self.where: Where = where
        self.prefix = conf.get("viewstamp_prefix", "celery/")
        if not isinstance(self.prefix, str) or not self.prefix or not self.prefix.isprintable():
            _refuse("viewstamp_prefix is text that begins all keys of this app, such as 'celery/'")
        self.ttl_s = _seconds(conf, "viewstamp_beat_ttl_s", TTL_S)
        self.keep_s = _seconds(conf, "viewstamp_once_keep_s", KEEP_S)
        self.options = dict(conf.get("viewstamp_options") or {})

    def store(self) -> BlockingCoordination:
        """Return this process's client of the store.

        Raises:
            ConfigurationError: an option makes no sense.
            NotExecuted: only addresses were given, and none of them answered in time.
        """
        make = partial(BlockingCoordination, self.where, **{"timeout_s": self.ttl_s, **self.options})
        return shared(self._key, make)

    def close(self) -> None:
        """Close this process's client, if it has one."""
        store = forget(self._key)
        if store is not None:
            store.close()

    @property
    def _key(self) -> tuple[str, str, str]:
        return "celery", repr(self.where), repr(sorted(self.options.items()))


def _seconds(conf: Mapping[str, Any], name: str, default: float) -> float:
    value = conf.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not TTL_S_MIN <= value < 1e9:
        _refuse(f"{name} is a number of seconds, {TTL_S_MIN:g} at least, not {value!r}")
    return float(value)


def _refuse(text: str) -> NoReturn:
    raise ImproperlyConfigured(f"{text}; nothing was started")

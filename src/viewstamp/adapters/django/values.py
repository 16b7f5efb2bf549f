"""A cached value as bytes: an integer as text, anything else as a pickle that is signed.

Rules of this file:

- a pickle is read only if this project signed it, with its SECRET_KEY, for this very key. A client that can
  write into the cluster can spoil a value, and cannot have one executed or put in another one's place;
- what is not signed so is taken for missing: the caller computes the value again.

Every cache of Django pickles, because its users cache what they like. The others read whatever they find.
"""

import logging
import pickle  # noqa: TID251  signed: see above
from typing import Any, Final

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

_SALT: Final = "viewstamp.adapters.django.values"
_MAC_BYTES: Final = 32
_PICKLED: Final = b"p"
_LOGGER: Final = logging.getLogger(__name__)


class Missing(Exception):
    """There is no value that this project wrote."""


def encoded(key: bytes, value: Any) -> bytes:
    """Return a value as the store has it. Raises what `pickle` raises for what cannot be pickled."""
    if type(value) is int:
        return b"%d" % value
    pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return _PICKLED + _signature(key, pickled, settings.SECRET_KEY) + pickled


def decoded(key: bytes, data: bytes) -> Any:
    """Return a value.

    Raises:
        Missing: it is not signed by this project for this key.
    """
    if data[:1] != _PICKLED:
        return _integer(key, data)
    try:
        return pickle.loads(_verified(key, data))  # noqa: S301  signed by this project
    except Missing:
        raise
    except Exception:  # noqa: BLE001  a class that this version no longer has
        raise _missing(key) from None


def moved(old: bytes, new: bytes, data: bytes) -> bytes:
    """Return what stands under one key as it is to stand under another. Reads no pickle.

    Raises:
        Missing: it is not signed by this project for the old key.
    """
    if data[:1] != _PICKLED:
        return b"%d" % _integer(old, data)
    pickled = _verified(old, data)
    return _PICKLED + _signature(new, pickled, settings.SECRET_KEY) + pickled


def _integer(key: bytes, data: bytes) -> int:
    try:
        return int(data)
    except ValueError:
        raise _missing(key) from None


def _verified(key: bytes, data: bytes) -> bytes:
    signature, pickled = data[1 : 1 + _MAC_BYTES], data[1 + _MAC_BYTES :]
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    if not any(constant_time_compare(signature, _signature(key, pickled, secret)) for secret in secrets):
        raise _missing(key)
    return pickled


def _signature(key: bytes, pickled: bytes, secret: str) -> bytes:
    signed = len(key).to_bytes(4, "big") + key + pickled
    made: bytes = salted_hmac(_SALT, signed, secret=secret, algorithm="sha256").digest()
    return made


def _missing(key: bytes) -> Missing:
    _LOGGER.warning("cache: what stands under %r was not written by this project: taken for missing", key)
    return Missing(key)

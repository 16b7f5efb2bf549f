"""Tokens: how a client proves its name that has no certificate. PASETO v4.public, verified once a connection.

Rules of this file:

- a token names a client, the cluster that it is for, and when it ends; nothing else in it has a meaning here;
- it is for clients alone: no token makes an operator or a member;
- it is accepted while its key is among those of the cluster file: to take a key out revokes all its tokens;
- one whose life is longer than the cluster file allows is refused, so that a key that was taken out late does
  bounded harm.

A token is a secret: it stands in no message to people and in no log. The keys that verify it are public.

Source: PASETO, version 4 (Ed25519), and PASERK for keys and their ids. The library is `pyseto`.
"""

import base64
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from viewstamp.core.errors import ConfigurationError
from viewstamp.core.principals import Role, is_name, role_of
from viewstamp.link.admission import Bearer
from viewstamp.runtime.system import utc_now

if TYPE_CHECKING:
    from pyseto.key_interface import KeyInterface

LOG: Final = logging.getLogger("viewstamp.runtime")
TOKEN_CHARACTERS_MAX: Final = 2_048
KEYS_MAX: Final = 16
LEEWAY: Final = timedelta(seconds=60)
"""By which the clocks of the issuer and of a node may differ, where a token is not valid yet."""
_PREFIX: Final = "v4.public."
_KEY_PREFIX: Final = "k4.public."
SECRET_PREFIX: Final = "k4.secret."  # noqa: S105  what any private key begins with
KEY_BYTES: Final = 32
_MISSING: Final = "tokens need pyseto, and nothing was done: pip install 'viewstamp[tokens]'"


class TokenConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tokens a cluster accepts. The table `[tokens]` of the cluster file.

    Raises:
        ConfigurationError: there are too many keys, or the longest life is not positive.
    """

    keys: tuple[str, ...] = ()
    """Public keys (`k4.public.`) whose tokens are accepted; none: no token is."""
    lifetime_max_s: int = 86_400
    """A token that lives longer is refused."""

    def __post_init__(self) -> None:
        """Refuse what cannot be used, without the library that reads keys."""
        if len(self.keys) > KEYS_MAX:
            raise ConfigurationError(f"tokens: there are {len(self.keys)} keys: {KEYS_MAX} are the most")
        for key in self.keys:
            if not key.startswith(_KEY_PREFIX):
                raise ConfigurationError(
                    f"tokens: a public key begins with {_KEY_PREFIX}: `viewstamp token key` prints one"
                )
        if self.lifetime_max_s < 1:
            raise ConfigurationError("tokens: lifetime_max_s must be 1 or more")


class Claims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a token says."""

    sub: str
    """The principal, `client/NAME`."""
    aud: str
    """The cluster's id."""
    iat: datetime
    """When it was issued."""
    exp: datetime
    """When it ends."""


class VerifiedToken(msgspec.Struct, frozen=True):
    """A token that was verified."""

    principal: str
    until: datetime
    """The connection over which it came ends then."""
    key_id: str
    """Of the key that signed it (`k4.pid.`)."""


TokenSource: TypeAlias = str | Callable[[], str]
"""A client's token, or what returns the present one: it is asked for each connection."""


def current_token(source: TokenSource) -> str:
    """Return a client's token; empty, and a line in the log, where the function that returns it raises."""
    if isinstance(source, str):
        return source
    try:
        return str(source())
    except Exception:  # the user's code may raise anything, and the client tries again later
        LOG.exception("the function that returns the token failed: connecting without one")
        return ""


class TokenRefused(Exception):
    """A token is not accepted. The text is one line and holds nothing of the token but what was verified."""


_CLAIMS: Final = msgspec.json.Decoder(Claims)


class TokenVerifier:
    """Verifies tokens for one cluster."""

    __slots__ = ("_cluster_id", "_keys", "_lifetime_max")

    def __init__(self, cluster_id: str, config: TokenConfig) -> None:
        """Read the keys.

        Raises:
            ConfigurationError: one cannot be read, or `pyseto` is not installed.
        """
        self._cluster_id = cluster_id
        self.take(config)

    def take(self, config: TokenConfig) -> None:
        """Verify by these keys from now on.

        Raises:
            ConfigurationError: one cannot be read; nothing was changed.
        """
        self._keys = [_public_key(text) for text in config.keys]
        self._lifetime_max = timedelta(seconds=config.lifetime_max_s)

    def verify(self, token: str, now: datetime) -> VerifiedToken:
        """Return on whose behalf a token speaks, and until when.

        Raises:
            TokenRefused: it is damaged, of another key, for another cluster, too old, too young or too long.
        """
        claims, key_id = self._read(token)
        if claims.aud != self._cluster_id:
            raise TokenRefused(f"the token of {claims.sub} is not for cluster {self._cluster_id!r}")
        if role_of(claims.sub) is not Role.CLIENT:
            raise TokenRefused("a token names a client: operators and members have certificates")
        if claims.exp <= now:
            raise TokenRefused(f"the token of {claims.sub} ended at {_moment(claims.exp)}: get a new one")
        if claims.iat > now + LEEWAY:
            raise TokenRefused(
                f"the token of {claims.sub} begins at {_moment(claims.iat)}, which is later than it is here"
            )
        if claims.exp - claims.iat > self._lifetime_max:
            raise TokenRefused(
                f"the token of {claims.sub} lives for longer than {self._lifetime_max}, the most here"
            )
        return VerifiedToken(claims.sub, claims.exp, key_id)

    def admit(self, token: str) -> Bearer | str:
        """Return whom a token names now, or why it is refused (`link.admission.VerifyToken`)."""
        now = utc_now()
        try:
            verified = self.verify(token, now)
        except TokenRefused as refused:
            return str(refused)
        return Bearer(verified.principal, (verified.until - now).total_seconds())

    def _read(self, token: str) -> tuple[Claims, str]:
        from pyseto import PysetoError

        if not token.startswith(_PREFIX) or len(token) > TOKEN_CHARACTERS_MAX:
            raise TokenRefused(f"it is not a token of this kind: one begins with {_PREFIX}")
        for key in self._keys:
            try:
                return read_claims(key, token), key.to_paserk_id()
            except (PysetoError, ValueError):
                continue  # of another key, or damaged: which of the two cannot be known
        raise TokenRefused("the token is damaged, or its key is not one that this cluster accepts")


def issue(key: "KeyInterface", name: str, cluster_id: str, now: datetime, lifetime: timedelta) -> str:
    """Return a token for the client `client/NAME`.

    Raises:
        ConfigurationError: it cannot be the name of a client.
    """
    import pyseto

    if not is_name(name):
        raise ConfigurationError(f"{name[:80]!r} is not the name of a client: letters, digits, -, _ and .")
    begin = now.replace(microsecond=0)
    claims = Claims(f"client/{name}", cluster_id, begin, begin + lifetime)
    token: bytes = pyseto.encode(key, msgspec.json.encode(claims))
    return token.decode()


def read_claims(key: "KeyInterface", token: str) -> Claims:
    """Return what a token of this key says; raise `PysetoError` or `ValueError` where it is not one of it."""
    import pyseto

    payload = pyseto.decode(key, token).payload
    assert isinstance(payload, bytes), "no deserializer was given"
    claims = _CLAIMS.decode(payload)
    if claims.iat.tzinfo is None or claims.exp.tzinfo is None:
        raise ValueError("a moment without its zone")
    return claims


def new_key(seed: bytes) -> "KeyInterface":
    """Return the private key made of 32 random bytes."""
    assert len(seed) == KEY_BYTES, len(seed)
    try:
        from pyseto import Key
    except ModuleNotFoundError as error:
        raise ConfigurationError(_MISSING) from error
    return Key.from_asymmetric_key_params(4, d=seed)


def public_text(key: "KeyInterface") -> str:
    """Return the public half of a private key as it stands in the cluster file."""
    from pyseto import Key

    text: str = key.to_paserk()
    raw = base64.urlsafe_b64decode(text.removeprefix(SECRET_PREFIX) + "==")
    public: str = Key.from_asymmetric_key_params(4, x=raw[KEY_BYTES:]).to_paserk()
    return public


def private_key(text: str) -> "KeyInterface":
    """Return the private key of this text (`k4.secret.`).

    Raises:
        ConfigurationError: it is not one. The text is not quoted.
    """
    key = _key(text) if text.startswith(SECRET_PREFIX) else None
    if key is None:
        raise ConfigurationError(f"this is not a private key: one begins with {SECRET_PREFIX}")
    return key


def key_ids(keys: Iterable[str]) -> list[str]:
    """Return the ids (`k4.pid.`) of public keys."""
    return [_public_key(text).to_paserk_id() for text in keys]


def _public_key(text: str) -> "KeyInterface":
    key = _key(text)
    if key is None:
        raise ConfigurationError(f"tokens: {text[:20]}... is not a public key")
    return key


def _key(text: str) -> "KeyInterface | None":
    try:
        from pyseto import Key, PysetoError
    except ModuleNotFoundError as error:
        raise ConfigurationError(_MISSING) from error
    try:
        return Key.from_paserk(text)
    except (PysetoError, ValueError):
        return None


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

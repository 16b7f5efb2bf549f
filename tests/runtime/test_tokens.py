"""Tokens of clients: who is believed, for which cluster, and for how long."""

import json
import sys
from datetime import UTC, datetime, timedelta

import pyseto
import pytest

from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.tokens import (
    KEY_BYTES,
    KEYS_MAX,
    LEEWAY,
    TOKEN_CHARACTERS_MAX,
    TokenConfig,
    TokenRefused,
    TokenVerifier,
    VerifiedToken,
    issue,
    key_ids,
    new_key,
    private_key,
    public_text,
)

KEY, OTHER_KEY = new_key(bytes(KEY_BYTES)), new_key(bytes(range(KEY_BYTES)))
PUBLIC = public_text(KEY)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
CONFIG = TokenConfig(keys=(public_text(OTHER_KEY), PUBLIC))


def verifier(config: TokenConfig = CONFIG, cluster_id: str = "orders") -> TokenVerifier:
    return TokenVerifier(cluster_id, config)


def token(name: str = "shop", lifetime: timedelta = HOUR, begin: datetime = NOW) -> str:
    return issue(KEY, name, "orders", begin, lifetime)


def signed(**claims: object) -> str:
    whole = {"sub": "client/shop", "aud": "orders", "iat": NOW.isoformat(), "exp": (NOW + HOUR).isoformat()}
    made: bytes = pyseto.encode(KEY, json.dumps(whole | claims).encode())
    return made.decode()


def refused(text: str, now: datetime = NOW, config: TokenConfig = CONFIG, cluster_id: str = "orders") -> str:
    with pytest.raises(TokenRefused) as caught:
        verifier(config, cluster_id).verify(text, now)
    said = str(caught.value)
    assert "\n" not in said
    assert text not in said or not text
    return said


def test_a_token_names_its_client_until_it_ends() -> None:
    bearer = verifier().verify(token(), NOW + HOUR - timedelta(seconds=1))
    assert bearer == VerifiedToken("client/shop", NOW + HOUR, key_ids([PUBLIC])[0])
    assert bearer.key_id.startswith("k4.pid.")


def test_a_token_is_refused_when_its_time_is_over_or_has_not_come() -> None:
    assert "ended at 2026-01-02 04:04:05 UTC" in refused(token(), NOW + HOUR)
    assert "begins at" in refused(token(), NOW - LEEWAY - timedelta(seconds=1))
    assert verifier().verify(token(), NOW - LEEWAY).principal == "client/shop"


def test_a_token_is_refused_when_it_lives_longer_than_the_cluster_allows() -> None:
    longest = TokenConfig(keys=(PUBLIC,), lifetime_max_s=3_600)
    assert verifier(longest).verify(token(), NOW).principal == "client/shop"
    assert "lives for longer" in refused(token(lifetime=HOUR + timedelta(seconds=1)), config=longest)


def test_all_tokens_of_a_key_are_refused_when_it_is_taken_out() -> None:
    assert "not one that this cluster accepts" in refused(token(), config=TokenConfig(keys=CONFIG.keys[:1]))
    assert "not one that this cluster accepts" in refused(token(), config=TokenConfig())


def test_a_token_for_another_cluster_is_refused() -> None:
    assert "is not for cluster 'stock'" in refused(token(), cluster_id="stock")


@pytest.mark.parametrize(
    "principal", ["operator/ann", "node/1", "local-operator", "anonymous", "client/", "shop", ""]
)
def test_a_token_makes_clients_and_nobody_else(principal: str) -> None:
    assert "names a client" in refused(signed(sub=principal))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v4.public.",
        "v4.public.AAAA",
        "v4.local." + token().removeprefix("v4.public."),
        "v2.public." + token().removeprefix("v4.public."),
        token()[:-1],
        token() + "A" * TOKEN_CHARACTERS_MAX,
        token()[:40] + ("A" if token()[40] != "A" else "B") + token()[41:],
        signed(sub=7),
        signed(role="operator"),
        signed(exp="2026-01-02T04:04:05"),
        signed(exp="never"),
    ],
)
def test_what_is_not_a_whole_token_is_refused(text: str) -> None:
    assert refused(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"keys": ("k4.secret.AAAA",)},
        {"keys": ("nonsense",)},
        {"keys": (PUBLIC,) * (KEYS_MAX + 1)},
        {"lifetime_max_s": 0},
    ],
)
def test_a_table_is_refused_when_it_cannot_be_used(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        TokenConfig(**fields)  # type: ignore[arg-type]


def test_keys_are_refused_when_they_cannot_be_read() -> None:
    with pytest.raises(ConfigurationError, match="is not a public key"):
        verifier(TokenConfig(keys=("k4.public.AAAA",)))
    for text in (PUBLIC, "", "k4.secret.AAAA"):
        with pytest.raises(ConfigurationError, match="not a private key") as caught:
            private_key(text)
        assert not text or text not in str(caught.value)
    assert public_text(private_key(KEY.to_paserk())) == PUBLIC


@pytest.mark.parametrize("name", ["", "a b", "ann/x", "x" * 65])
def test_no_token_is_issued_for_what_is_not_a_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="not the name of a client"):
        token(name)


def test_it_says_what_to_install_when_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyseto", None)
    with pytest.raises(ConfigurationError, match=r"viewstamp\[tokens\]"):
        verifier()
    verifier(TokenConfig())  # without a key there is nothing to read

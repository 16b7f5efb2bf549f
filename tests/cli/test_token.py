"""`viewstamp token`: a key, tokens of it, and what is said of them."""

import stat
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from viewstamp.cli import failures


@pytest.fixture
def prepared(command: Command, tmp_path: Path) -> Path:
    assert command("init").code == failures.DONE
    ran = command("token", "key", "signing.key")
    assert ran.code == failures.DONE
    cluster = tmp_path / "viewstamp.toml"
    text = cluster.read_text()
    begin = text.index("\n[[members]]")
    cluster.write_text(text[:begin] + "\n" + ran.out + text[begin:])
    return cluster


def test_a_key_is_for_its_owner_alone_and_is_never_replaced(command: Command, tmp_path: Path) -> None:
    ran = command("token", "key", "signing.key")
    secret = (tmp_path / "signing.key").read_text()
    assert stat.S_IMODE((tmp_path / "signing.key").stat().st_mode) == 0o600
    assert secret.startswith("k4.secret.")
    assert secret.strip() not in ran.out
    assert 'keys = ["k4.public.' in ran.out
    assert command("token", "key", "signing.key").code == failures.CONFIGURATION
    assert (tmp_path / "signing.key").read_text() == secret


def test_a_token_is_issued_and_shown(command: Command, prepared: Path) -> None:
    issued = command("token", "issue", "shop", "--key", "signing.key", "--hours", 2)
    assert issued.code == failures.DONE
    prepared.with_name("token").write_text(issued.out)
    ran = command("token", "show", "token")
    assert ran.code == failures.DONE
    assert "principal: client/shop" in ran.out
    assert "key: k4.pid." in ran.out
    assert issued.out.strip() not in ran.out
    assert command("token", "show", "token", "--json").json["principal"] == "client/shop"


def test_a_token_is_not_accepted_when_its_key_was_taken_out(command: Command, prepared: Path) -> None:
    issued = command("token", "issue", "shop", "--key", "signing.key")
    prepared.with_name("token").write_text(issued.out)
    command("token", "key", "other.key")
    text = prepared.read_text()
    prepared.write_text(text.replace("keys = [", "# keys = ["))
    ran = command("token", "show", "token")
    assert ran.code == failures.REFUSED
    assert "not accepted: the token is damaged, or its key" in ran.out
    refused = command("token", "issue", "shop", "--key", "signing.key")
    assert refused.code == failures.CONFIGURATION
    assert "no node would accept the token" in refused.complaint


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["shop", "--key", "signing.key", "--hours", "25"], "lifetime_max_s"),
        (["shop", "--key", "signing.key", "--hours", "nan"], "--hours"),
        (["a/b", "--key", "signing.key"], "not the name of a client"),
        (["shop", "--key", "viewstamp.toml"], "not a private key"),
        (["shop", "--key", "nothing"], "nothing"),
    ],
)
def test_no_token_is_issued_when_something_is_wrong(
    command: Command, prepared: Path, arguments: list[str], why: str
) -> None:
    ran = command("token", "issue", *arguments)
    assert ran.code == failures.CONFIGURATION
    assert why in ran.complaint
    assert ran.out == ""
    assert prepared.exists()

"""What is encrypted for a recipient is read with the private key, and by nobody else."""

from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from viewstamp.cli.encryption import MAGIC, decrypted, encrypted
from viewstamp.core.errors import ConfigurationError, NotExecuted
from viewstamp.stream.records import StreamDamaged

PIECES = [bytes([number]) * 70_000 for number in range(5)]


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, str]:
    """Return a file as `age-keygen` writes it, and its public key."""
    return make_key(tmp_path / "key.txt")


def make_key(path: Path) -> tuple[Path, str]:
    identity = pyrage.x25519.Identity.generate()
    path.write_text(f"# created: today\n# public key: {identity.to_public()}\n{identity}\n")
    return path, str(identity.to_public())


def test_what_was_encrypted_is_decrypted(key: tuple[Path, str]) -> None:
    file, recipient = key
    sent = list(encrypted(PIECES, [recipient]))
    assert sent[0].startswith(MAGIC)
    assert PIECES[1][:100] not in b"".join(sent)
    assert b"".join(decrypted(sent, file)) == b"".join(PIECES)


def test_each_recipient_can_read_it_and_nobody_else(key: tuple[Path, str], tmp_path: Path) -> None:
    file, recipient = key
    second, other = make_key(tmp_path / "second.txt")
    third, _ = make_key(tmp_path / "third.txt")
    sent = list(encrypted(PIECES, [recipient, other]))
    for reader in (file, second):
        assert b"".join(decrypted(sent, reader)) == b"".join(PIECES)
    with pytest.raises(StreamDamaged, match="cannot be decrypted with the keys in"):
        list(decrypted(sent, third))


def test_each_flipped_byte_and_each_truncation_is_refused(key: tuple[Path, str]) -> None:
    file, recipient = key
    sent = b"".join(encrypted([b"a small state"], [recipient]))
    for place in range(len(sent)):
        flipped = bytearray(sent)
        flipped[place] ^= 0x20
        with pytest.raises(StreamDamaged):
            list(decrypted([bytes(flipped)], file))
        with pytest.raises(StreamDamaged):
            list(decrypted([sent[:place]], file))


def test_what_the_source_raises_is_raised_and_nothing_is_taken_for_whole(key: tuple[Path, str]) -> None:
    file, recipient = key

    def breaks() -> Iterator[bytes]:
        yield PIECES[0]
        raise NotExecuted("no member answered")

    sent: list[bytes] = []
    with pytest.raises(NotExecuted, match="no member answered"):
        sent.extend(encrypted(breaks(), [recipient]))
    with pytest.raises(StreamDamaged):
        list(decrypted(sent, file))


def test_a_reader_may_stop_early(key: tuple[Path, str]) -> None:
    file, recipient = key
    sent = list(encrypted(PIECES * 20, [recipient]))
    pieces = decrypted(sent, file)
    assert next(pieces)
    pieces.close()  # type: ignore[attr-defined]


def test_a_recipient_that_is_none_is_refused_before_anything_is_read() -> None:
    read = list[str]()

    def unread() -> Iterator[bytes]:
        read.append("it was")
        yield b""

    for text in ("age1nothing", "ssh-rsa nothing", "AGE-SECRET-KEY-1", ""):
        with pytest.raises(ConfigurationError, match=r"it names nobody.*nothing was written"):
            list(encrypted(unread(), [text]))
    assert read == []


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", b"no key", b"\xff\xfe"])
def test_a_file_without_a_key_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "empty.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="it holds no private key"):
        list(decrypted([MAGIC], path))
    with pytest.raises(ConfigurationError, match="cannot read"):
        list(decrypted([MAGIC], tmp_path / "missing.txt"))

"""Streams that only their recipients can read: the format of age (age-encryption.org), by `pyrage`.

`age` itself can decrypt them, and what it encrypts can be read here. Bytes go through a thread and a pipe, so
that memory stays bounded.
"""

import io
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from viewstamp.core.errors import ConfigurationError
from viewstamp.stream.decoder import READ_BYTES
from viewstamp.stream.records import StreamDamaged

MAGIC: Final = b"age-encryption.org/"
"""What an encrypted stream begins with."""
SUFFIX: Final = ".age"
_SSH: Final = "ssh-"
_MISSING: Final = "encryption needs pyrage, and nothing was done: pip install 'viewstamp[age]'"
_KEY_BYTES_MAX: Final = 1 << 20

Work = Callable[[BinaryIO, BinaryIO], None]


def _library() -> Any:
    try:
        import pyrage
    except ImportError:
        raise ConfigurationError(_MISSING) from None
    return pyrage


def encrypted(pieces: Iterable[bytes], recipients: Sequence[str]) -> Iterator[bytes]:
    """Yield these bytes encrypted for the recipients: `age1...`, or public keys of SSH.

    What `pieces` raises is raised here.

    Raises:
        ConfigurationError: a recipient cannot be read, or pyrage is not installed; nothing was read.
    """
    library, known = _library(), [_recipient(text) for text in recipients]
    return _through(pieces, lambda source, sink: library.encrypt_io(source, sink, known))


def decrypted(pieces: Iterable[bytes], identity: Path) -> Iterator[bytes]:
    """Yield what was encrypted, with the keys in a file: of `age-keygen`, or a private key of SSH.

    Raises:
        ConfigurationError: the file holds no such key, or pyrage is not installed.
        StreamDamaged: it was encrypted for others, or is not what was encrypted. What was yielded is right.
    """
    library, keys = _library(), _identities(identity)

    def work(source: BinaryIO, sink: BinaryIO) -> None:
        try:
            library.decrypt_io(source, sink, keys)
        except BrokenPipeError:
            raise
        except (library.DecryptError, OSError) as error:  # an OSError where a part of the content is wrong
            raise StreamDamaged(f"it cannot be decrypted with the keys in {identity}: {error}") from None

    return _through(pieces, work)


def _recipient(text: str) -> Any:
    library = _library()
    kinds = library.ssh if text.startswith(_SSH) else library.x25519
    try:
        return kinds.Recipient.from_str(text)
    except library.RecipientError:
        raise ConfigurationError(
            f"--recipient {text[:80]}: it names nobody; give what `age-keygen` prints as the public key "
            "(age1...), or a line of an SSH public key; nothing was written"
        ) from None


def _identities(path: Path) -> list[Any]:
    library = _library()
    try:
        with path.open("rb") as file:
            text = file.read(_KEY_BYTES_MAX)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    try:
        if b"PRIVATE KEY-----" in text:
            return [library.ssh.Identity.from_buffer(text)]
        lines = (line.strip() for line in text.decode().splitlines())
        keys = [library.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except (library.IdentityError, UnicodeDecodeError):
        keys = []
    if not keys:
        raise ConfigurationError(
            f"--identity {path}: it holds no private key; give the file that `age-keygen -o FILE` made, or a "
            "private key of SSH without a passphrase"
        )
    return keys


class _Pieces(io.RawIOBase):
    """Pieces as a file that can be read, and what their source raised."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        super().__init__()
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")
        self.failure: BaseException | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not len(self._rest):
            try:
                self._rest = memoryview(next(self._pieces, b""))
            except BaseException as error:
                self.failure = error
                raise
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _through(pieces: Iterable[bytes], work: Work) -> Iterator[bytes]:
    """Yield what `work` makes of these pieces. It reads them in a thread of its own."""
    reading, writing = os.pipe()
    source, failures = _Pieces(pieces), list[BaseException]()

    def run() -> None:
        try:
            with os.fdopen(writing, "wb") as sink:
                work(io.BufferedReader(source, READ_BYTES), sink)
        except BrokenPipeError:
            pass  # nobody wants the rest
        except BaseException as error:  # noqa: BLE001  it is raised where the bytes are read
            failures.append(source.failure or error)

    thread = threading.Thread(target=run, name="encryption", daemon=True)
    thread.start()
    with os.fdopen(reading, "rb", buffering=0) as file:
        while piece := file.read(READ_BYTES):
            yield piece
    thread.join()
    if failures:
        raise failures[0]

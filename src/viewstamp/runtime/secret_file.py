"""The secret that the members and operators of a cluster on one machine share: a file that one user can read.

Which user may act as a member or an operator is thereby the file system's decision. Without a file of its own
a cluster uses the one of the user who starts its servers, which is made when it is first needed.
"""

import os
import stat
from pathlib import Path
from typing import Final

from viewstamp.core.errors import ConfigurationError
from viewstamp.link.proof import KEY_BYTES, Secret
from viewstamp.runtime.system import fresh_bytes, state_directory

_FILE_BYTES_MAX: Final = 1024
_MODE: Final = 0o600
_ADVICE: Final = "make one with `viewstamp init`, or copy that of the other nodes"


def read_secret(path: Path | str) -> Secret:
    """Return the secret in a file.

    Raises:
        ConfigurationError: it cannot be read, others may read it too, or it does not hold a secret. One line.
    """
    try:
        # Not blocking: a named pipe in its place would keep the node waiting for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(f"cannot read the secret {path}: {error.strerror}; {_ADVICE}") from error
    try:
        known = os.fstat(handle)
        if not stat.S_ISREG(known.st_mode) or known.st_mode & 0o077 or known.st_uid != os.geteuid():
            raise ConfigurationError(
                f"the secret {path} must be a regular file of this user alone: chmod 600 {path}"
            )
        text = os.read(handle, _FILE_BYTES_MAX)
    finally:
        os.close(handle)
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"{path} does not hold {2 * KEY_BYTES} hexadecimal digits; {_ADVICE}")
    return Secret(key)


def make_secret(path: Path | str) -> None:
    """Write a new secret, readable by this user alone. A file that exists is never replaced.

    Raises:
        ConfigurationError: there is a file of this name, or it cannot be written.
    """
    beside = Path(f"{path}.{os.getpid()}-{fresh_bytes(4).hex()}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(fresh_bytes(KEY_BYTES).hex().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, path)  # whole or not at all, and by one process only
        finally:
            beside.unlink()
    except OSError as error:
        raise ConfigurationError(f"cannot write the secret {path}: {error.strerror}") from error


def user_secret() -> Secret:
    """Return the secret of this user on this machine; make it where there is none yet.

    Raises:
        ConfigurationError: the directory of this user's state cannot be written.
    """
    path = state_directory() / "secret"
    if not path.exists():
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"cannot make {path.parent}: {error.strerror}; name a secret in the cluster file "
                '(secret = "FILE"), or set XDG_STATE_HOME'
            ) from error
        try:
            make_secret(path)
        except ConfigurationError:
            if not path.exists():  # else another process was faster
                raise
    return read_secret(path)

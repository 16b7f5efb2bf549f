"""Reading files that people name: regular ones, of a bounded size, without ever waiting."""

import os
from pathlib import Path
from typing import BinaryIO

from viewstamp.core.errors import ConfigurationError
from viewstamp.storage.files import open_regular


def open_named(path: Path | str) -> BinaryIO:
    """Open a file that the user named, for reading.

    Raises:
        ConfigurationError: it cannot be opened, or is not a regular file; one line that names it.
    """
    try:
        return os.fdopen(open_regular(path, os.O_RDONLY), "rb")
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"cannot read {path}: {reason}") from error


def read_named(path: Path | str, *, bytes_max: int) -> bytes:
    """Return the content of a file that the user named.

    Raises:
        ConfigurationError: it cannot be read, is not a regular file, or is longer than `bytes_max`.
    """
    with open_named(path) as file:
        try:
            content = file.read(bytes_max + 1)
        except OSError as error:
            raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > bytes_max:
        raise ConfigurationError(f"cannot read {path}: it is too long, more than {bytes_max} bytes")
    return content

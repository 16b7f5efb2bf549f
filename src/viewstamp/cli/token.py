"""`viewstamp token`: keys, and tokens for clients that have no certificate."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from viewstamp.cli.failures import DONE, REFUSED
from viewstamp.cli.output import show_json
from viewstamp.cli.target import CLUSTER_FILE, load_cluster
from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.system import fresh_bytes, utc_now
from viewstamp.runtime.tokens import (
    KEY_BYTES,
    TOKEN_CHARACTERS_MAX,
    TokenRefused,
    TokenVerifier,
    issue,
    key_ids,
    new_key,
    private_key,
    public_text,
)
from viewstamp.storage.files import FILE_MODE, read_named

_KEY_FILE_BYTES_MAX: Final = 1_024
HOURS_MAX: Final = 24 * 366


def key(
    file: Annotated[Path, Parameter(help="The file to write; only its owner can read it.")],
    /,
) -> int:
    """Make a private key, and print its public half for the table [tokens] of the cluster file.

    The program that issues tokens needs the private key, and no server does.
    """
    made = new_key(fresh_bytes(KEY_BYTES))
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}; no key was made") from error
    with os.fdopen(handle, "w", encoding="ascii") as opened:
        opened.write(f"{made.to_paserk()}\n")
    public = public_text(made)
    print(f'[tokens]\nkeys = ["{public}"]  # {key_ids([public])[0]}')
    return DONE


def issue_one(
    name: Annotated[str, Parameter(help="Of the client: the principal is client/NAME.")],
    /,
    *,
    key: Annotated[Path, Parameter(help="The private key.")],
    cluster: Annotated[Path, Parameter(help="Cluster file.")] = Path(CLUSTER_FILE),
    hours: Annotated[float, Parameter(help="How long it is valid.")] = 1,
) -> int:
    """Print a token with which a client proves its name to one cluster, for a while."""
    if not 0 < hours <= HOURS_MAX:
        raise ConfigurationError(f"--hours {hours}: give more than 0 and at most {HOURS_MAX}")
    private = private_key(_text_of(key, _KEY_FILE_BYTES_MAX))
    config = load_cluster(cluster)
    lifetime = timedelta(hours=hours)
    if lifetime.total_seconds() > config.tokens.lifetime_max_s:
        raise ConfigurationError(
            f"--hours {hours}: tokens of this cluster live for at most {config.tokens.lifetime_max_s} s "
            "(tokens.lifetime_max_s)"
        )
    if public_text(private) not in config.tokens.keys:
        raise ConfigurationError(
            f"the public half of {key} is not in the table [tokens] of {cluster}: no node would accept the "
            "token, so none was issued"
        )
    print(issue(private, name, config.cluster_id, utc_now(), lifetime))
    return DONE


def show(
    file: Annotated[Path, Parameter(help="A file with a token.")],
    /,
    *,
    cluster: Annotated[Path, Parameter(help="Cluster file.")] = Path(CLUSTER_FILE),
    json: Annotated[bool, Parameter(negative="", help="Print JSON.")] = False,
) -> int:
    """Print whose token it is, until when it is valid and which key signed it, not the token itself.

    Exit code 1: the cluster would not accept it now; the line says why.
    """
    config = load_cluster(cluster)
    token = _text_of(file, 2 * TOKEN_CHARACTERS_MAX)
    try:
        verified = TokenVerifier(config.cluster_id, config.tokens).verify(token, utc_now())
    except TokenRefused as refused:
        print(f"not accepted: {refused}")
        return REFUSED
    if json:
        show_json({"principal": verified.principal, "until": verified.until, "key": verified.key_id})
    else:
        print(f"principal: {verified.principal}\nuntil: {verified.until.isoformat()}\nkey: {verified.key_id}")
    return DONE


def _text_of(path: Path, bytes_max: int) -> str:
    return read_named(path, bytes_max=bytes_max).decode("ascii", "replace").strip()

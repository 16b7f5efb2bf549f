"""The audit program: prints a factory's positions, and then its log, an operation a line."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

from viewstamp.core.errors import ConfigurationError
from viewstamp.runtime.addresses import Address, format_address
from viewstamp_labs.cs6650.arguments import parse_audit_arguments
from viewstamp_labs.cs6650.auditor import Account, AuditorStub
from viewstamp_labs.cs6650.output import give_up_output

EXIT_DONE: Final = 0
EXIT_NO_SERVER: Final = 1
EXIT_USAGE: Final = 2
_TIMEOUT_S: Final = 10.0


async def read_account(address: Address) -> Account:
    """Return a factory's positions and log.

    Raises:
        OSError: the server is not there, or has gone, or is silent.
    """
    async with asyncio.timeout(_TIMEOUT_S):
        stub = await AuditorStub.connect(address)
        try:
            return await stub.audit()
        finally:
            stub.close()


def render(account: Account) -> str:
    """Return the account as lines: the four positions by name, then index and MapOp, tabs between."""
    positions = account.positions
    lines = [
        f"factory_id\t{positions.factory_id}",
        f"primary_id\t{positions.primary_id}",
        f"last_index\t{positions.last_index}",
        f"committed_index\t{positions.committed_index}",
    ]
    for index, operation in enumerate(account.log, start=1):
        lines.append(f"{index}\t{operation.opcode}\t{operation.arg1}\t{operation.arg2}")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str]) -> int:
    """Run the audit program with these arguments and return its exit code."""
    try:
        address = parse_audit_arguments(words)
    except ConfigurationError as error:
        return _complain(str(error), EXIT_USAGE)
    try:
        sys.stdout.write(render(asyncio.run(read_account(address))))
        sys.stdout.flush()
    except BrokenPipeError:
        give_up_output()
        return EXIT_DONE
    except OSError as error:
        reason = error.strerror or str(error) or "no answer"
        return _complain(f"cannot audit {format_address(address)}: {reason}", EXIT_NO_SERVER)
    return EXIT_DONE


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"audit: {' '.join(message.split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

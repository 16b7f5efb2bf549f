"""The commands by name. Each lives in its own file and is imported when it is called, so that all start fast.

Settings come from flags, then from `VIEWSTAMP_<FLAG>` in the environment (`VIEWSTAMP_CLUSTER=prod.toml`).
"""

import sys
from collections.abc import Sequence
from typing import Any, Final

from cyclopts import App, CycloptsError
from cyclopts.config import Env

from viewstamp.cli import failures

COMMANDS: Final = {
    "init": ("viewstamp.cli.init:init", "Write a cluster file: who the members are."),
    "serve": ("viewstamp.cli.serve:serve", "Run one member of a cluster."),
    "kv": ("viewstamp.cli.kv:app", "Read and write the stock key/value service."),
    "status": ("viewstamp.cli.status:status", "Show every node: role, view, positions, lag."),
    "transfer": ("viewstamp.cli.operate:transfer", "Hand leadership to another node."),
    "snapshot": ("viewstamp.cli.operate:snapshot", "Take a snapshot now, and shorten the log."),
    "journal": ("viewstamp.cli.journal:app", "Look into a data directory without a server."),
    "bench": ("viewstamp.cli.bench:bench", "Load a cluster, measure, record what happened."),
    "check": ("viewstamp.cli.check:check", "Judge whether a recorded history is linearizable."),
    "sim": ("viewstamp.cli.sim:sim", "Run a simulated cluster through disasters."),
    "demo": ("viewstamp.cli.demo:demo", "See three servers survive the death of their leader."),
}
"""Name: (where it is, what it does). To add a command, add its line."""


def make_app() -> App:
    """Return the whole command line; no command is imported yet."""
    app = App(
        name="viewstamp",
        help="Replicated state machines: one object on several machines that does not fail.",
        help_epilogue="Each flag may also be set as VIEWSTAMP_NAME in the environment.",
        version=_version,
        help_formatter="plain",
        config=Env("VIEWSTAMP_", command=False, show=False),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
    )
    for name, (where, summary) in COMMANDS.items():
        app.command(where, name=name, help=summary)
    return app


def _version() -> str:
    from importlib.metadata import version

    return f"viewstamp {version('viewstamp')}"


def run(arguments: Sequence[str]) -> int:
    """Carry out one command and return its exit code. Expected errors become one line on standard error."""
    try:
        code = _call(make_app(), list(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return failures.INTERRUPTED
    except BrokenPipeError:
        failures.give_up_output()
        return failures.DONE
    except Exception as error:
        expected = failures.code_of(error)
        if expected is None:
            raise
        failures.complain(str(error) or type(error).__name__)
        return expected
    return code


def _call(app: App, arguments: list[str]) -> int:
    try:
        result: Any = app(arguments)
    except CycloptsError as error:
        command = " ".join(["viewstamp", *(error.command_chain or ())])
        failures.complain(f"{error}. Try: {command} --help".replace("..", "."))
        return failures.USAGE
    return result if isinstance(result, int) else failures.DONE

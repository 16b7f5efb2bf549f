"""The whole command line as its library sees it: help, mistakes, the environment."""

from collections.abc import Callable
from functools import update_wrapper
from importlib import import_module
from inspect import signature
from typing import Annotated, Any, Final, get_args, get_origin

from cyclopts import App, CycloptsError, Parameter
from cyclopts.config import Env

from viewstamp.cli import failures
from viewstamp.cli.app import COMMANDS, GROUPS, IMPLIED, MAIN
from viewstamp.cli.fast_path import ENVIRONMENT_PREFIX, is_switch
from viewstamp.cli.flags import QUICK, Flag

_SUMMARY: Final = "Replicated state machines: one object on several machines that does not fail."
_HELP: Final = frozenset({"--help", "-h", "--version"})
_EPILOGUE: Final = "Each flag may also be set as VIEWSTAMP_NAME in the environment."


def make_app() -> App:
    """Return the whole command line; no command is imported yet."""
    others = sorted({name.split()[0] for name in COMMANDS} - MAIN)
    app = App(
        name="viewstamp",
        help=f"{_SUMMARY}\n\nAlso: {', '.join(others)}.",
        help_epilogue=_EPILOGUE,
        version=_version,
        help_formatter="plain",
        config=Env(ENVIRONMENT_PREFIX, command=False, show=False),
        result_action="return_value",
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        print_error=False,
    )
    groups = {name: App(name=name, help=summary, show=name in MAIN) for name, summary in GROUPS.items()}
    for name, (where, summary) in COMMANDS.items():
        group, _, leaf = name.rpartition(" ")
        parent = groups[group] if group else app
        shown = bool(group) or name in MAIN
        parent.command(f"{__name__}:{name}" if name in QUICK else where, name=leaf, help=summary, show=shown)
    for group_app in groups.values():
        app.command(group_app)
    return app


def call(tokens: list[str]) -> int:
    """Carry out a command line and return its exit code; a mistake is explained in one line."""
    try:
        result: Any = make_app()(completed(tokens))
    except CycloptsError as error:
        command = " ".join(["viewstamp", *(error.command_chain or ())])
        failures.complain(f"{error}. Try: {command} --help".replace("..", "."))
        return failures.USAGE
    return result if isinstance(result, int) else failures.DONE


def completed(tokens: list[str]) -> list[str]:
    """Return the command line with the second word of a command where it was left out.

    A single hyphen in the place of its target goes to the end, behind the two that end the flags: the library
    would take it for a flag.
    """
    first, second = (*tokens, "", "")[:2]
    if first not in IMPLIED or not second or second in _HELP:
        return tokens
    if f"{first} {second}" not in COMMANDS:
        tokens, second = [first, IMPLIED[first], *tokens[1:]], IMPLIED[first]
    if second != IMPLIED[first] or "-" not in tokens or "--" in tokens:
        return tokens
    return [*(word for word in tokens if word != "-"), "--", "-"]


def __getattr__(name: str) -> Callable[..., Any]:
    """Return a quick command in the library's terms: lazy commands are looked up in this module."""
    if name not in QUICK:
        raise AttributeError(name)
    module, _, attribute = COMMANDS[name][0].partition(":")
    return adapted(vars(import_module(module))[attribute])


def adapted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its flags described in the library's terms."""

    def command(*positional: Any, **named: Any) -> Any:
        return function(*positional, **named)

    known = signature(function)
    update_wrapper(command, function)
    parameters = [one.replace(annotation=described(one.annotation)) for one in known.parameters.values()]
    command.__signature__ = known.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    del command.__wrapped__  # type: ignore[attr-defined]
    return command


def described(annotation: Any) -> Any:
    """Return the annotation with `Parameter` in the place of `Flag`."""
    if get_origin(annotation) is not Annotated:
        return annotation
    plain, flag = get_args(annotation)
    assert isinstance(flag, Flag)
    negative = "" if is_switch(annotation) else None
    hyphen = flag.may_begin_with_hyphen
    return Annotated[plain, Parameter(help=flag.help, negative=negative, allow_leading_hyphen=hyphen)]


def _version() -> str:
    from importlib.metadata import version

    return f"viewstamp {version('viewstamp')}"

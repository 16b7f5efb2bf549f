"""The quick way into a command: for plain, well-formed command lines, which are nearly all.

Anything else (help, a mistake, a setting in the environment) is left to `surface`. What is understood here
means the same there: tests/cli/test_fast_path.py holds the two together.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from viewstamp.cli.flags import QUICK

ENVIRONMENT_PREFIX: Final = "VIEWSTAMP_"
_WHOLE: Final = re.compile(r"[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


class NotPlain(Exception):
    """This command line is not for the quick way."""


Call = tuple[Callable[..., Any], list[Any], dict[str, Any]]


def understand(
    tokens: Sequence[str], environment: Mapping[str, str], places: Mapping[str, tuple[str, str]]
) -> Call | None:
    """Return the command's function and its arguments; None: take the long way."""
    if any(name.startswith(ENVIRONMENT_PREFIX) for name in environment):
        return None
    length = next((size for size in (1, 2) if " ".join(tokens[:size]) in QUICK), None)
    if length is None:
        return None
    module, _, attribute = places[" ".join(tokens[:length])][0].partition(":")
    function: Callable[..., Any] = vars(import_module(module))[attribute]
    try:
        return function, *bind(function, tokens[length:])
    except NotPlain:
        return None


def bind(function: Callable[..., Any], tokens: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and the named arguments that these tokens mean.

    Raises:
        NotPlain: they are to be judged elsewhere.
    """
    parameters = signature(function).parameters
    places = [one for one in parameters.values() if one.kind is Parameter.POSITIONAL_ONLY]
    flags = {
        f"--{name.replace('_', '-')}": one
        for name, one in parameters.items()
        if one.kind is Parameter.KEYWORD_ONLY
    }
    positional: list[Any] = []
    named: dict[str, Any] = {}
    left = iter(tokens)
    for token in left:
        if not token.startswith("-"):
            if len(positional) == len(places):
                raise NotPlain
            positional.append(convert(token, places[len(positional)].annotation))
            continue
        flag = flags.get(token)
        if flag is None or flag.name in named:
            raise NotPlain
        named[flag.name] = is_switch(flag.annotation) or convert(next(left, "-"), flag.annotation)
    given = {*named, *(place.name for place in places[: len(positional)])}
    if any(one.default is Parameter.empty and name not in given for name, one in parameters.items()):
        raise NotPlain
    return positional, named


def is_switch(annotation: Any) -> bool:
    """Return whether the flag takes no value."""
    return plain_type(annotation) is bool


def plain_type(annotation: Any) -> Any:
    """Return the type without what is annotated, and without `| None`."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) is UnionType:
        (annotation,) = (one for one in get_args(annotation) if one is not NoneType)
    return annotation


def convert(token: str, annotation: Any) -> Any:
    """Return the value that a token means; `NotPlain` where that is not obvious."""
    wanted = plain_type(annotation)
    if token.startswith("-"):
        raise NotPlain
    if wanted is str:
        return token
    if wanted is Path and token:
        return Path(token)
    if wanted is int and _WHOLE.fullmatch(token):
        return int(token)
    if wanted is float and _DECIMAL.fullmatch(token):
        return float(token)
    if get_origin(wanted) is Literal and token in get_args(wanted):
        return token
    raise NotPlain

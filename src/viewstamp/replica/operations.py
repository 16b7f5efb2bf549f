"""`@command` and `@query`: the two kinds of methods that clients may call.

Rules of this file:

- on an instance of the machine the method is the plain method it was: machines are tested as ordinary
  objects;
- on the class it is a `Command[P, R]` or `Query[P, R]`. A client's proxy is typed as the class, so that a
  call through it is typed as an awaitable of the result, with the method's own parameters, without a plug-in.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, Generic, NoReturn, ParamSpec, Self, TypeVar, overload

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Operation(Generic[P, R]):
    """A method that clients may call."""

    kind = "operation"

    def __init__(self, function: Callable[Concatenate[Any, P], R]) -> None:
        self.function = function
        self.name: str = getattr(function, "__name__", "")
        self.__doc__ = function.__doc__

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type[Any]) -> Callable[P, R]: ...

    def __get__(self, instance: object | None, owner: type[Any]) -> Self | Callable[P, R]:
        """Return the plain method of an instance, or this object for the class."""
        if instance is None:
            return self
        method: Callable[P, R] = self.function.__get__(instance, owner)
        return method

    def __call__(self, *_args: P.args, **_kwargs: P.kwargs) -> Awaitable[R]:
        """Stand for the call through a client's proxy, which is typed as the class."""
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError(f"{self.name} is called on a machine, or on the proxy that connect() returns")


class Command(Operation[P, R]):
    """A method that changes the machine: it is ordered by the log and runs on every replica."""

    kind = "command"


class Query(Operation[P, R]):
    """A method that only reads: it runs on one replica, at a moment when that is safe."""

    kind = "query"


def command(function: Callable[Concatenate[Any, P], R]) -> Command[P, R]:
    """Let clients call this method through the log; arguments and result are types that msgspec knows."""
    return Command(function)


def query(function: Callable[Concatenate[Any, P], R]) -> Query[P, R]:
    """Let clients call this method, which must not change the machine."""
    return Query(function)

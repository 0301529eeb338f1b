"""Damaged records, reported in one line by whatever reads their rows."""

import functools
import inspect
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from edgecell.errors import InputError, ModelError

_C = TypeVar("_C", bound=Callable[..., Any])

_SIGNS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    ModelError,
    RecursionError,
    TypeError,
    ValueError,
    zlib.error,
)
"""What Python says of a row that holds something else than its column should."""


def damage_told(readers: _C) -> _C:
    """Makes a class or a function report a damaged session in one line.

    SQLite keeps any type in any column, and whoever hands a session over may have
    written anything into it: rows are read as if they were sound, and what that
    leads to is caught here.

    Args:
        readers: a class with the attribute ``folder``, the session's, or a function
            whose first argument is such an object.
    """
    if inspect.isfunction(readers):
        return cast(_C, _guarded(readers))
    for name, method in vars(readers).items():
        if inspect.isfunction(method) and (name == "__init__" or name[0] != "_"):
            setattr(readers, name, _guarded(method))
    return readers


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(method):

        @functools.wraps(method)
        def each(self: Any, *args: Any, **settings: Any) -> Iterator[Any]:
            with _damage_of(self):
                yield from method(self, *args, **settings)

        return each

    @functools.wraps(method)
    def read(self: Any, *args: Any, **settings: Any) -> Any:
        with _damage_of(self):
            return method(self, *args, **settings)

    return read


@contextmanager
def _damage_of(reader: Any) -> Iterator[None]:
    try:
        yield
    except _SIGNS as e:
        folder: Path = reader.folder
        why = "its model's record" if isinstance(e, ModelError) else str(e)[:200]
        raise InputError(f"{folder} has a damaged record ({why})") from e

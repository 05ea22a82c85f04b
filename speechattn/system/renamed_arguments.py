"""Keyword arguments that got another name: a call with the old one fails with the new one in the message.

Nothing is converted, and a call with today's names costs one more Python frame.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

CallableT = TypeVar("CallableT", bound=Callable[..., Any])


def renamed(**new_names: str) -> Callable[[CallableT], CallableT]:
    """Decorate a function, or a class for its `__init__`, whose keyword arguments were renamed: old="new".

    Signature, docstring and pickles stay those of the decorated object.

    Examples:
        >>> @renamed(execution="backend")
        ... def attend(backend="auto"): ...
        >>> attend(execution="dense")
        Traceback (most recent call last):
        TypeError: attend() has no argument 'execution': use backend=.
    """

    def decorate(target: CallableT) -> CallableT:
        if isinstance(target, type):
            target.__init__ = _naming(target.__init__, target.__name__, new_names)  # type: ignore[misc]
            return target
        return _naming(target, target.__name__, new_names)

    return decorate


def _naming(function: CallableT, name: str, new_names: dict[str, str]) -> CallableT:
    """Return `function`, with new names in the TypeError that an old one causes."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError:
            for old in new_names:
                if old in kwargs:  # it is no parameter of the function, which has not begun
                    raise TypeError(f"{name}() has no argument {old!r}: use {new_names[old]}=.") from None
            raise

    return call  # type: ignore[return-value]

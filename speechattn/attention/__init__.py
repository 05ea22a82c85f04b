"""Frames see frames: masks, the executions of attention, positions, and the multi-head layer.

`sa.attention` is the public function and this package carries the same name; whichever of the two an import
bound last, it can be called: the package hands the call to `attention.functional.attention`, whose help is
``help(speechattn.attention.functional.attention)``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """See speechattn.attention.functional.attention, which this calls."""
        from speechattn.attention.functional import attention

        return attention(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage

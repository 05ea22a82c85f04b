"""Which layer runs now, by the name that its module has in the model: "blocks.0.attention".

For as long as it is entered, every module says when it begins and ends, to torch's profiler too. `forward` and `step`
are heard; what the backward pass computes, no module knows: its callers find the layer by autograd's sequence numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from torch import nn
from torch.profiler import record_function

WHOLE, OUTSIDE = "encoder", "outside"
"""What the model itself is called, and what is in no module, as a loss is."""


class ModuleMarks:
    """Names while it is entered.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        >>> ModuleMarks(model).names
        ['encoder', '0', '1']
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = {name or WHOLE: module for name, module in model.named_modules()}
        self._running: list[tuple[str, record_function]] = []
        self._undo = ExitStack()

    @property
    def names(self) -> list[str]:
        """All names, the model's own first."""
        return list(self._modules)

    @property
    def current(self) -> str:
        """The innermost module that runs now, or "outside"."""
        return self._running[-1][0] if self._running else OUTSIDE

    def __enter__(self) -> ModuleMarks:
        for name, module in self._modules.items():
            before = module.register_forward_pre_hook(lambda *_, name=name: self._begin(name))
            after = module.register_forward_hook(lambda *_: self._end(), always_call=True)
            self._undo.callback(before.remove)
            self._undo.callback(after.remove)
            if callable(getattr(module, "step", None)):  # a stream calls it by its name, past the hooks
                module.step = self._heard(name, module.step)
                self._undo.callback(module.__dict__.pop, "step")
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _begin(self, name: str) -> None:
        mark = record_function(name)
        mark.__enter__()  # type: ignore[no-untyped-call]
        self._running.append((name, mark))

    def _end(self) -> None:
        _, mark = self._running.pop()
        mark.__exit__(None, None, None)

    def _heard(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            self._begin(name)
            try:
                return function(*arguments, **named)
            finally:
                self._end()

        return step


def layer_of(name: str) -> str:
    """The layer that a module is a part of, as a table has room for: down to one name behind its number.

    Example:
        >>> [layer_of(name) for name in ("input", "blocks.3", "blocks.3.attention.output", "a.layers.0.ff.1")]
        ['input', 'blocks.3', 'blocks.3.attention', 'a.layers.0.ff']
    """
    parts = name.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdecimal()), None)
    return name if number is None else ".".join(parts[: number + 2])


def part_of(name: str) -> str:
    """What kind of layer that is, whatever its number: of all blocks the attention is one part.

    Example:
        >>> [part_of(name) for name in ("input", "blocks.3", "blocks.3.attention.output", "0")]
        ['input', 'blocks', 'attention', '0']
    """
    words = [part for part in layer_of(name).split(".") if not part.isdecimal()]
    return words[-1] if words else name


def block_of(name: str) -> str:
    """The block that a module is a part of.

    Example:
        >>> [block_of(name) for name in ("input", "blocks.3", "blocks.3.attention.output", "norm.weight")]
        ['input', 'blocks.3', 'blocks.3', 'norm']
    """
    parts = name.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdecimal()), 0)
    return ".".join(parts[: number + 1])

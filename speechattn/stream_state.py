"""The state of a stream as a tree: tensors and numbers in tuples and dataclasses, and one walker over it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any

from torch import Tensor

LAYOUT = 1
"""Version of the meaning of a state's tensors: a state of another version is refused."""


def map_tensors(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """Return the tree with `function(tensor)` in place of every tensor, called in order.

    torch.utils._pytree does not enter dataclasses, and is private.

    Examples:
        >>> import torch
        >>> map_tensors(len, (torch.zeros(3), 7, (torch.zeros(2),)))
        (3, 7, (2,))
    """
    if isinstance(tree, Tensor):
        return function(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        values = {entry.name: map_tensors(function, getattr(tree, entry.name)) for entry in dataclasses.fields(tree)}
        return dataclasses.replace(tree, **values)
    if not isinstance(tree, tuple):
        return tree
    parts = [map_tensors(function, part) for part in tree]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


def tensors(tree: Any) -> list[Tensor]:
    """Return every tensor of a tree, in order."""
    found: list[Tensor] = []
    map_tensors(found.append, tree)
    return found


def num_bytes(tree: Any) -> int:
    """Return the memory of all tensors of a tree, in bytes."""
    return sum(tensor.nbytes for tensor in tensors(tree))


@functools.lru_cache  # a stream asks with every push
def fingerprint(config: Any) -> str:
    """Return the name of a config in its states: the layout version and twelve digits of its hash."""
    settings = config.to_dict()
    for part in (settings, settings.get("encoder", {})):
        part.pop("backend", None)  # how attention is computed changes no state
    return f"{LAYOUT}-" + hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def check_kept(
    kept: Tensor, input: Tensor, like: Tensor, of: str = "layer", fix: str = "begin with initial_state(batch_size)"
) -> None:
    """Raise ValueError unless a tensor of a state [B, ...] fits the next input [B, ...] and `like`.

    `like` has the dtype and device of a module, which `of` names; `fix` is the advice if the state has others.
    """
    if len(input) != len(kept):
        raise ValueError(f"the state is of {len(kept)} streams in lock-step, input has {len(input)} rows.")
    if (kept.dtype, kept.device) != (like.dtype, like.device):
        raise ValueError(f"the state is {kept.dtype} on {kept.device}, the {of} {like.dtype} on {like.device}: {fix}.")

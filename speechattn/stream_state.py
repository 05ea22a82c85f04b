"""What a stream keeps is a plain tree: tensors and numbers in tuples. What is done to every such tree."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from torch import Tensor

LAYOUT = 1
"""Counts up when a state's tensors come to mean something else: a state of another version is refused."""


def tensors(tree: Any) -> Iterator[Tensor]:
    """Every tensor of a tree, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple):
        for part in tree:
            yield from tensors(part)


def num_bytes(tree: Any) -> int:
    """Memory of all tensors of a tree, in bytes."""
    return sum(tensor.nbytes for tensor in tensors(tree))


def moved(tree: Any, *args: Any, **kwargs: Any) -> Any:
    """The tree with every tensor moved, as by `Tensor.to`."""
    if isinstance(tree, Tensor):
        return tree.to(*args, **kwargs)
    if not isinstance(tree, tuple):
        return tree
    parts = [moved(part, *args, **kwargs) for part in tree]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


@functools.lru_cache  # a stream asks with every push
def fingerprint(config: Any) -> str:
    """The layout of states and twelve digits that name a config: a state belongs to what it was made for."""
    settings = config.to_dict()
    for part in (settings, settings.get("encoder", {})):
        part.pop("backend", None)  # how attention is computed changes no state
    return f"{LAYOUT}-" + hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def check_kept(
    kept: Tensor, input: Tensor, like: Tensor, of: str = "layer", fix: str = "begin with initial_state(batch_size)"
) -> None:
    """Raise ValueError unless what was kept, a tensor [B, ...], fits the next input [B, ...] and `like`.

    `like` has the dtype and device of a module, which `of` names; `fix` says what helps when the state has others.
    """
    if len(input) != len(kept):
        raise ValueError(f"the state is of {len(kept)} streams in lock-step, input has {len(input)} rows.")
    if (kept.dtype, kept.device) != (like.dtype, like.device):
        raise ValueError(f"the state is {kept.dtype} on {kept.device}, the {of} {like.dtype} on {like.device}: {fix}.")

"""The attention outside the window, which must be 0: the weights of a layer against `Context.visible`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from speechattn.context import Context


def mass_outside(weights: ArrayLike, context: Context) -> float:
    """Return the share of attention on keys outside `Context.visible`: exactly 0.0 if the layer respects its window.

    `weights` is [H, T, T] or [T, T], queries in rows. Absolute values are summed, so that negative weights do
    not cancel positive ones; rows of zeros (padding) add nothing; a NaN gives NaN. Without any weight it is 0.0.

    Raises:
        ValueError: weights have other axes, or not as many keys as queries.

    Examples:
        >>> mass_outside(np.eye(3), Context.truncated(0, 0)), mass_outside(np.ones((2, 2)), Context.causal())
        (0.0, 0.25)
    """
    array = np.abs(_floats(weights))
    array = array if array.ndim == 3 else array[None]
    if array.ndim != 3 or array.shape[-1] != array.shape[-2]:
        raise ValueError(f"expected as many keys as queries, [H, T, T], got shape {list(array.shape)}.")
    keys = np.arange(array.shape[-1])
    spans = np.array([context.visible(i, len(keys)) for i in keys.tolist()], dtype=np.int64).reshape(-1, 2)
    seen = (keys >= spans[:, :1]) & (keys < spans[:, 1:])
    total, outside = float(array.sum()), float(array[:, ~seen].sum())
    return outside / total if total or math.isnan(total) else 0.0


def _floats(weights: Any) -> NDArray[np.float64]:
    """Return an array, nested lists or a tensor of any dtype, with gradient or without, as float64."""
    detach = getattr(weights, "detach", None)
    return np.asarray(weights if detach is None else detach().cpu().double(), dtype=np.float64)

"""Position encodings: sinusoidal, learned and rotary positions, and a bias by distance, learned or fixed (ALiBi).

Everything takes absolute frame indices, never a buffer length, so that a stream that continues at frame
one million computes the same numbers as an offline pass over it. Angles are computed in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from speechattn.context import Context


def angles(positions: Tensor, num_angles: int, base: float = 10_000.0) -> Tensor:
    """Return angles [T, num_angles] in radians, float64: position times base ** (-j / num_angles).

    `positions` [T] are absolute frame indices.
    """
    exponents = torch.arange(num_angles, dtype=torch.float64, device=positions.device) / num_angles
    return positions.to(torch.float64)[:, None] * base**-exponents


def sinusoidal(positions: Tensor, d_model: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return sines, then cosines, [T, d_model], of absolute frame indices [T] (Vaswani et al. 2017, section 3.5).

    The paper interleaves sines and cosines; a linear layer on top cannot tell the difference.
    """
    theta = angles(positions, (d_model + 1) // 2)
    return torch.cat((theta.sin(), theta.cos()), -1)[:, :d_model].to(dtype)


def rotary(x: Tensor, positions: Tensor) -> Tensor:
    """Return `x` [B, H, T, D] with each pair (d, d + D/2) turned by its position's angle (Su et al. 2021, eq. 34).

    The product of a turned query and a turned key depends on their distance alone. The paper pairs
    neighbours (2d, 2d + 1); halves are the same up to a permutation of the projections. D must be even.
    """
    half = x.shape[-1] // 2
    theta = angles(positions, half)
    cos, sin = theta.cos().to(x.dtype), theta.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class LearnedPositions(nn.Module):
    """A learned vector e_i for each frame, to be added to the frame's vector a_i: [max_frames, d_model].

    The table ends: frames past it have no position, and raise ValueError.
    """

    def __init__(self, max_frames: int, d_model: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(max_frames, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew, small compared with frames of unit size."""
        nn.init.normal_(self.table, std=0.02)

    def forward(self, start: int, count: int) -> Tensor:
        """Return vectors [count, d_model] of the frames from `start` on.

        Raises:
            ValueError: a frame lies past the table.
        """
        if start + count > len(self.table):
            raise ValueError(
                f"learned positions end at frame {len(self.table)}, and the audio has {start + count} frames. Use "
                f'EncoderConfig(max_frames={start + count}), or position_encoding="relative", which never ends.'
            )
        return self.table[start : start + count]


def alibi(num_heads: int, offsets: range, device: torch.device | None = None) -> Tensor:
    """Return a bias [H, offsets] that falls linearly with the distance, head h by 2 ** (-8 (h + 1) / H) a frame.

    Attention with linear biases (Press et al. 2022, section 3); on the right side it is the mirror image. Their slopes
    for a number of heads that is no power of two are interpolated from the next ones; ours follow one formula.

    Examples:
        >>> alibi(2, range(-2, 2))[0].tolist()
        [-0.125, -0.0625, -0.0, -0.0625]
    """
    slopes = 2.0 ** (-8 * torch.arange(1, num_heads + 1, device=device) / num_heads)
    distances = torch.arange(offsets.start, offsets.stop, device=device).abs()
    return -slopes[:, None] * distances


class RelativeBias(nn.Module):
    """A learned number per head for every distance key minus query (Raffel et al. 2020, without buckets).

    The table is sized once, by the context given here; used with another context its ends are shared by
    all farther keys, so the weights never depend on the context of a call.

    Heads start out as the taps of a convolution: the first prefers the frame itself, the next two the frames
    1 before and after it, then 2, 4, ..., less sharply with the distance, and the last looks everywhere.
    """

    def __init__(self, num_heads: int, context: Context) -> None:
        super().__init__()
        self.offsets = context.offsets()
        self.table = nn.Parameter(torch.empty(num_heads, len(self.offsets)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set the table to what it is before training."""
        num_heads = len(self.table)
        distances = torch.tensor(self.offsets, dtype=self.table.dtype, device=self.table.device)
        for head, row in enumerate(self.table):
            row.copy_(-_slope(head, num_heads) * (distances - _tap(head, self.offsets)).abs())

    def forward(self, context: Context) -> Tensor:
        """Return the bias [H, len(context.offsets())] for `attention(..., relative_bias=)`."""
        return _resized(self.table, self.offsets, context.offsets())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Report how to resize the table, where torch reports a size mismatch alone."""
        table, errors = state_dict.get(f"{prefix}table"), rest[-1]
        if table is not None and table.shape != self.table.shape:
            errors.append(f"{prefix}table is {list(table.shape)}, not {list(self.table.shape)}. {RESIZE}")
        else:
            super()._load_from_state_dict(state_dict, prefix, *rest)


RESIZE = (
    "A table of relative biases has the size of its context: sa.resize_relative_bias(weights, old, new) changes it."
)


def resize_relative_bias(
    weights: Mapping[str, Tensor], old: Context | Sequence[Context], new: Context | Sequence[Context]
) -> dict[str, Tensor]:
    """Return the weights of an encoder, or of a model with one, for a wider or narrower context.

    Distances that the old context did not have get the value at its end, as when the old encoder is called with
    ``context=new``: training goes on from exactly what that call gives, and from what the old encoder gives where the
    new one is called with ``context=old``. All other tensors are those of `weights`.

    Args:
        weights: a state dict; tables are found by their name, `relative_bias.table`.
        old: the context that the weights were trained with, `config.context`: one, or one per layer.
        new: the context of the encoder that is to load them.

    Raises:
        ValueError: there is no table, not one for each context, or one that is not of the old context.

    Examples:
        >>> old, new = Context.truncated(1, 1), Context.truncated(2, 3)
        >>> weights = {"relative_bias.table": torch.tensor([[1.0, 2.0, 3.0]])}
        >>> resize_relative_bias(weights, old, new)["relative_bias.table"].tolist()
        [[1.0, 1.0, 2.0, 3.0, 3.0, 3.0]]
    """
    # Files list names in the order of their letters: layer 10 before layer 2.
    names = sorted(
        (name for name in weights if name.split(".")[-2:] == ["relative_bias", "table"]),
        key=lambda name: [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")],
    )
    if not names:
        raise ValueError(
            "weights hold no relative_bias.table: only position_encoding='relative' have tables of biases."
        )
    resized = dict(weights)
    contexts = [[context] * len(names) if isinstance(context, Context) else list(context) for context in (old, new)]
    for given, layers in zip(("old", "new"), contexts, strict=True):
        if len(layers) != len(names):
            raise ValueError(f"{given} must be one Context, or one for each of {len(names)} tables, got {len(layers)}.")
    for name, before, after in zip(names, *contexts, strict=True):
        if weights[name].shape[1] != len(before.offsets()):
            raise ValueError(
                f"{name} has {weights[name].shape[1]} distances, and old=({before}) has {len(before.offsets())}: give "
                "the context that the weights were trained with."
            )
        resized[name] = _resized(weights[name], before.offsets(), after.offsets()).clone()
    return resized


def _resized(table: Tensor, offsets: range, wanted: range) -> Tensor:
    """Return columns of a table [H, offsets] for other distances; past an end, that end."""
    if wanted == offsets:
        return table
    index = torch.arange(wanted.start, wanted.stop, device=table.device) - offsets.start
    return table[:, index.clamp(0, len(offsets) - 1)]


def _tap(head: int, offsets: range) -> int:
    """Return the distance that a head prefers at first: 0, -1, 1, -2, 2, -4, 4, ..., as far as the context goes."""
    if head == 0:
        return 0
    distance = 1 << (head - 1) // 2
    return max(-distance, offsets.start) if head % 2 else min(distance, offsets.stop - 1)


def _slope(head: int, num_heads: int) -> float:
    """Return how much a score falls with each frame from a head's preferred distance, in nats."""
    if head == num_heads - 1:
        return 0.05
    return min(1.5, 2 / (1 << (head - 1) // 2)) if head else 1.5

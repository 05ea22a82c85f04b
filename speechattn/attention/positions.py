"""Where a frame is: sinusoidal, learned and rotary positions, and a bias by distance, learned or fixed (ALiBi).

Everything takes absolute frame indices, never a buffer length, so that a stream that continues at frame
one million computes the same numbers as an offline pass over it. Angles are computed in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speechattn.context import Context


def angles(positions: Tensor, num_angles: int, base: float = 10_000.0) -> Tensor:
    """Angles [T, num_angles] in radians, float64: position times base ** (-j / num_angles).

    `positions` [T] are absolute frame indices.
    """
    exponents = torch.arange(num_angles, dtype=torch.float64, device=positions.device) / num_angles
    return positions.to(torch.float64)[:, None] * base**-exponents


def sinusoidal(positions: Tensor, d_model: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Sines, then cosines, [T, d_model], of absolute frame indices [T] (Vaswani et al. 2017, section 3.5).

    The paper interleaves sines and cosines; a linear layer on top cannot tell the difference.
    """
    theta = angles(positions, (d_model + 1) // 2)
    return torch.cat((theta.sin(), theta.cos()), -1)[:, :d_model].to(dtype)


def rotary(x: Tensor, positions: Tensor) -> Tensor:
    """`x` [B, H, T, D] with each pair (d, d + D/2) turned by its position's angle (Su et al. 2021, eq. 34).

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

    The table ends: what lies past it has no position, and is refused.
    """

    def __init__(self, max_frames: int, d_model: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(max_frames, d_model))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew: small beside frames of unit size."""
        nn.init.normal_(self.table, std=0.02)

    def forward(self, start: int, count: int) -> Tensor:
        """Vectors [count, d_model] of the frames from `start` on.

        Raises:
            ValueError: a frame lies past the table.
        """
        if start + count > len(self.table):
            raise ValueError(
                f"learned positions end at frame {len(self.table)}, and the audio has {start + count} frames. Use "
                f'EncoderConfig(max_frames={start + count}), or positions="relative", which never end.'
            )
        return self.table[start : start + count]


def alibi(num_heads: int, offsets: range, device: torch.device | None = None) -> Tensor:
    """Bias [H, offsets] that falls linearly with the distance, head h by 2 ** (-8 (h + 1) / H) a frame.

    Attention with linear biases (Press et al. 2022, section 3); on the right side it is the mirror image. Their slopes
    for a number of heads that is no power of two are interpolated from the next ones; ours follow one formula.

    Example:
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
        """The table as it is before training."""
        num_heads = len(self.table)
        distances = torch.tensor(self.offsets, dtype=self.table.dtype, device=self.table.device)
        for head, row in enumerate(self.table):
            row.copy_(-_slope(head, num_heads) * (distances - _tap(head, self.offsets)).abs())

    def forward(self, context: Context) -> Tensor:
        """Bias [H, len(context.offsets())] for `attention(..., relative_bias=)`."""
        wanted = context.offsets()
        if wanted == self.offsets:
            return self.table
        index = torch.arange(wanted.start, wanted.stop, device=self.table.device) - self.offsets.start
        return self.table[:, index.clamp(0, len(self.offsets) - 1)]


def _tap(head: int, offsets: range) -> int:
    """The distance that a head prefers at first: 0, -1, 1, -2, 2, -4, 4, ..., as far as the context goes."""
    if head == 0:
        return 0
    distance = 1 << (head - 1) // 2
    return max(-distance, offsets.start) if head % 2 else min(distance, offsets.stop - 1)


def _slope(head: int, num_heads: int) -> float:
    """How much a score falls with each frame from a head's preferred distance, in nats."""
    if head == num_heads - 1:
        return 0.05
    return min(1.5, 2 / (1 << (head - 1) // 2)) if head else 1.5

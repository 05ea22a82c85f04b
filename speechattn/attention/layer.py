"""SelfAttention: projections, positions and attention, the layer that lets frames see frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speechattn.attention.functional import attention
from speechattn.attention.positions import RelativeBias, rotary
from speechattn.config import SCORES
from speechattn.context import Context
from speechattn.lengths import zero_padding

LAYER_POSITIONS = ("none", "rotary", "relative")


class SelfAttention(nn.Module):
    """Multi-head self-attention over a context: frames [B, T, D] -> [B, T, D].

    Args:
        d_model: features of a frame; divisible by num_heads (and into even heads for rotary positions).
        num_heads: heads, each with d_model / num_heads features.
        context: what each frame may see, unless `forward` is given another.
        positions: "none", "rotary" or "relative". Sinusoidal positions are added once, by the encoder.
        scores: "softmax" or "relu", see `attention`.

    Example:
        >>> layer = SelfAttention(8, 2, Context.truncated(4, 2))
        >>> layer(torch.zeros(1, 10, 8)).shape
        torch.Size([1, 10, 8])
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        context: Context,
        positions: str = "none",
        scores: str = "softmax",
    ) -> None:
        super().__init__()
        if num_heads < 1 or d_model % num_heads:
            raise ValueError(f"d_model must be divisible by num_heads, got {d_model} and {num_heads}.")
        if positions not in LAYER_POSITIONS:
            raise ValueError(
                f"positions of a layer must be one of {', '.join(LAYER_POSITIONS)}, got {positions!r}. "
                "Sinusoidal ones are added once, at the encoder's input."
            )
        if scores not in SCORES:
            raise ValueError(f"scores must be one of {', '.join(SCORES)}, got {scores!r}.")
        if positions == "rotary" and d_model // num_heads % 2:
            raise ValueError(f"rotary positions need an even head, got {d_model} / {num_heads} features.")
        self.context, self.num_heads, self.positions, self.scores = context, num_heads, positions, scores
        self.query_key_value = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)
        self.relative_bias = RelativeBias(num_heads, context) if positions == "relative" else None

    def forward(
        self,
        input: Tensor,
        lengths: Tensor | None = None,
        context: Context | None = None,
        execution: str = "auto",
    ) -> Tensor:
        """Frames [B, T, D], exactly 0 at and past `lengths` [B]; `context` overrides the layer's own."""
        context = self.context if context is None else context
        q, k, v = self.project(zero_padding(input, lengths))
        heads = attention(
            q,
            k,
            v,
            context,
            lengths=lengths,
            scores=self.scores,
            relative_bias=self.bias(context),
            execution=execution,
        )
        return zero_padding(self.output(heads.transpose(1, 2).flatten(2)), lengths)

    def project(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B, H, T, D / H], positions applied: what `attention` takes."""
        packed = self.query_key_value(input).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        if self.positions == "rotary":
            frames = torch.arange(input.shape[1], device=input.device)
            q, k = rotary(q, frames), rotary(k, frames)
        return q, k, v

    def bias(self, context: Context) -> Tensor | None:
        """The relative bias [H, len(context.offsets())] of a context, or None."""
        return None if self.relative_bias is None else self.relative_bias(context)

    def extra_repr(self) -> str:
        return f"context=({self.context}), num_heads={self.num_heads}, positions={self.positions}, scores={self.scores}"

"""SelfAttention: projections, positions and attention, offline and streaming."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from speechattn.attention.call import AttentionCall
from speechattn.attention.dispatch import step, unsupported_reason
from speechattn.attention.functional import attention, packed_attention
from speechattn.attention.positions import RelativeBias, alibi, rotary
from speechattn.attention.qkv import QKV, unpack
from speechattn.config import ACTIVATIONS, BACKENDS
from speechattn.context import Context
from speechattn.dtypes import fitting, like, widened
from speechattn.lengths import zero_padding
from speechattn.stream_state import check_kept
from speechattn.system.renamed_arguments import renamed
from speechattn.system.serialization import whole

LAYER_POSITION_ENCODINGS = ("none", "rotary", "relative", "alibi")


class AttentionState(NamedTuple):
    """The state of one attention layer in a stream: frames [0, seen) have come in, [0, done) have gone out."""

    queries: Tensor  # [B, H, seen - done, D]: frames that still wait for what they may see
    keys: Tensor  # [B, H, n, D]: the last n frames, at most context.kept_frames of them
    values: Tensor
    seen: int
    done: int


@renamed(positions="position_encoding", scores="activation", execution="backend")
class SelfAttention(nn.Module):
    """Multi-head self-attention over a context: frames [B, T, D] -> [B, T, D].

    Args:
        d_model: features of a frame; divisible by num_heads (and into even heads for rotary positions).
        num_heads: heads, each with d_model / num_heads features.
        context: what each frame may see, unless `forward` is given another.
        position_encoding: "none", "rotary", "relative" or "alibi". Sinusoidal and learned positions are added
            once, by the encoder.
        activation: "softmax" or "relu", see `attention`.
        backend: how `forward` computes unless it is given another, see `attention`; `step` always does as "auto".

    Examples:
        >>> layer = SelfAttention(8, 2, Context.truncated(4, 2))
        >>> layer(torch.zeros(1, 10, 8)).shape
        torch.Size([1, 10, 8])
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        context: Context,
        position_encoding: str = "none",
        activation: str = "softmax",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        d_model, num_heads = whole("d_model", d_model), whole("num_heads", num_heads)
        if d_model % num_heads:
            raise ValueError(f"d_model must be divisible by num_heads, got {d_model} and {num_heads}.")
        if position_encoding not in LAYER_POSITION_ENCODINGS:
            raise ValueError(
                f"position_encoding of a layer must be one of {', '.join(LAYER_POSITION_ENCODINGS)}, got "
                f"{position_encoding!r}. Sinusoidal and learned ones are added once, at the encoder's input."
            )
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}.")
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}.")
        if position_encoding == "rotary" and d_model // num_heads % 2:
            raise ValueError(f"rotary positions need an even head, got {d_model} / {num_heads} features.")
        self.context, self.num_heads, self.backend = context, num_heads, backend
        self.position_encoding, self.activation = position_encoding, activation
        self.query_key_value = nn.Linear(d_model, 3 * d_model)
        self.d_model = d_model
        self.output = nn.Linear(d_model, d_model)
        self.relative_bias = RelativeBias(num_heads, context) if position_encoding == "relative" else None

    def forward(
        self,
        input: Tensor,
        lengths: Tensor | None = None,
        context: Context | None = None,
        backend: str | None = None,
    ) -> Tensor:
        """Return frames [B, T, D], exactly 0 at and past `lengths` [B].

        `context` and `backend` override the layer's own.
        """
        context = self.context if context is None else context
        input = fitting(input, self, "layer")
        rest: dict[str, Any] = {
            "lengths": lengths,
            "activation": self.activation,
            "relative_bias": self.bias(context, input.shape[1]),
            "backend": self.backend if backend is None else backend,
        }
        input = zero_padding(input, lengths)
        if self.position_encoding == "rotary":
            heads = attention(*self.project(input), context, **rest)
        else:
            heads = packed_attention(self._packed(input), context, **rest)
        return zero_padding(self._merge(heads), lengths)

    def initial_state(self, batch_size: int = 1) -> AttentionState:
        """Return the state of a stream that has not begun.

        Raises:
            ValueError: the context's right side is unlimited, so that nothing would ever come out.
        """
        if self.context.right is None:
            raise ValueError(
                f"a layer with unlimited right context cannot stream, got ({self.context}): every frame would wait "
                "for the end of the audio. Use Context.truncated(left, right) or Context.chunked(chunk, left)."
            )
        empty = like(self).new_empty(batch_size, self.num_heads, 0, self.d_model // self.num_heads)
        return AttentionState(empty, empty, empty, 0, 0)

    @torch.no_grad()
    def step(self, input: Tensor, state: AttentionState, final: bool = False) -> tuple[Tensor, AttentionState]:
        """Return the frames [B, m, D] that are ready after the next n >= 0 frames [B, n, D], and the new state.

        `final` says that these n frames, or none, are the last: everything pending comes out. The old state is left
        as it was. No gradient flows.

        Raises:
            ValueError: the state is of another batch size, dtype or device. Of which layer it is, is not checked:
                an encoder does that.
        """
        input = fitting(input, self, "layer")
        check_kept(state.keys, input, like(self))
        seen = state.seen + input.shape[1]
        ready = seen if final else self.context.ready(seen)
        new = self.project(input, state.seen)
        q, k, v = (torch.cat(pair, 2) for pair in zip((state.queries, state.keys, state.values), new, strict=True))
        bias = self.bias(self.context, seen)
        call = AttentionCall(
            self.context,
            activation=self.activation,
            bias=None if bias is None else bias.to(widened(q.dtype)),
            scale=q.shape[3] ** -0.5,
            query_start=state.done,
            key_start=seen - k.shape[2],
        )
        heads = step(QKV(q[:, :, : ready - state.done], k, v), call)
        start, _ = self.context.span(ready)
        kept = seen if start is None else min(seen, seen - start)
        first = k.shape[2] - kept
        # Copies: a view would keep everything alive that it is a view of.
        rest = (q[:, :, ready - state.done :].clone(), k[:, :, first:].clone(), v[:, :, first:].clone())
        return self._merge(heads), AttentionState(*rest, seen, ready)

    def flush(self, state: AttentionState) -> Tensor:
        """Return the frames [B, m, D] that are pending when no more will come."""
        return self.step(state.keys[:, :, :0].transpose(1, 2).flatten(2), state, final=True)[0]

    def project(self, input: Tensor, start: int | Tensor = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values [B, H, T, D / H] of frames [start, start + T): what `attention` takes."""
        q, k, v, _ = unpack(self._packed(input))
        if self.position_encoding == "rotary":
            frames = start + torch.arange(input.shape[1], device=input.device)
            q, k = rotary(q, frames), rotary(k, frames)
        return q, k, v

    def _packed(self, input: Tensor) -> Tensor:
        """Return queries, keys and values [B, T, 3, H, D / H]."""
        packed: Tensor = self.query_key_value(input).unflatten(-1, (3, self.num_heads, -1))
        return packed

    def bias(self, context: Context, num_frames: int) -> Tensor | None:
        """Return what is added to the scores of `num_frames` frames by key minus query, [H, offsets], or None."""
        if self.relative_bias is not None:
            bias: Tensor = self.relative_bias(context)
            return bias
        if self.position_encoding == "alibi":
            return alibi(self.num_heads, context.offsets(num_frames), like(self).device)
        return None

    def _merge(self, heads: Tensor) -> Tensor:
        """Return heads [B, H, T, D / H] side by side, through the output projection: [B, T, D]."""
        output: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return output

    def extra_repr(self) -> str:
        """Return what `print` shows of a layer, and why it is not native."""
        heads = like(self).new_empty(1, self.num_heads, 0, self.d_model // self.num_heads)
        reason = unsupported_reason("native", QKV(heads, heads, heads), AttentionCall(self.context))
        return (
            f"context=({self.context}), num_heads={self.num_heads}, "
            f"position_encoding={self.position_encoding}, activation={self.activation}"
            f"{f', not native: {reason}' if reason else ''}"
        )

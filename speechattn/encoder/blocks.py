"""The blocks an encoder is a stack of: transformer, conformer, convolution. All are residual, with their norms first.

A block computes `forward` for whole rows, `step` for the next frames of a stream and `flush` for those owed at its end,
all with the same layers. In a stream attention and convolution give a frame out only when all it may see has come in,
so the frame waits for them in `waiting`, to be added to what they made of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.dtypes import like
from speechattn.encoder.chunked_apply import framewise
from speechattn.encoder.convolution import FramesConvolution
from speechattn.encoder.self_attention import AttentionState, SelfAttention


class TransformerState(NamedTuple):
    """What a stream keeps of a transformer block."""

    attention: AttentionState
    waiting: Tensor  # [B, n, D]


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward layer, each added to what came in (Vaswani et al. 2017, with the norms first)."""

    def __init__(self, config: EncoderConfig, context: Context) -> None:
        super().__init__()
        self.d_model = config.d_model
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.attention = make_attention(config, context)
        self.feed_forward = feed_forward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None, context: Context | None = None) -> Tensor:
        """Frames [B, T, D] -> [B, T, D]."""
        return framewise(self._finish, x, self.attention(self.attention_norm(x), lengths, context))

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(attended)
        output: Tensor = x + self.dropout(self.feed_forward(x))
        return output

    def initial_state(self, batch_size: int = 1) -> TransformerState:
        """The state before the first frame."""
        none = no_frames(self, self.d_model, batch_size)
        return TransformerState(self.attention.initial_state(batch_size), none)

    @torch.no_grad()
    def step(self, x: Tensor, state: TransformerState, final: bool = False) -> tuple[Tensor, TransformerState]:
        """The frames [B, m, D] that have become ready after the next ones [B, n, D], and the new state."""
        attended, attention = self.attention.step(self.attention_norm(x), state.attention, final)
        x, waiting = take(state.waiting, x, attended.shape[1])
        return self._finish(x, attended), TransformerState(attention, waiting)

    def flush(self, state: TransformerState) -> Tensor:
        """The frames [B, m, D] still owed when no more will come."""
        return self.step(state.waiting[:, :0], state, final=True)[0]


class ConformerState(NamedTuple):
    """What a stream keeps of a conformer block."""

    attention: AttentionState
    waiting: Tensor  # [B, n, D]
    convolution: Tensor
    waiting_for_convolution: Tensor


class ConformerBlock(nn.Module):
    """Half a feed-forward layer, attention, convolution, the other half, and a norm (Gulati et al. 2020, section 2).

    Where the paper has BatchNorm inside the convolution there is LayerNorm: statistics of a batch would let rows
    see each other, and padding count.
    """

    def __init__(self, config: EncoderConfig, context: Context) -> None:
        super().__init__()
        d_model = self.d_model = config.d_model
        self.feed_forward = feed_forward(config)
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = make_attention(config, context)
        self.before_convolution = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, 2 * d_model), nn.GLU())
        self.convolution = FramesConvolution(d_model, config.convolution)
        self.after_convolution = nn.Sequential(nn.LayerNorm(d_model), nn.SiLU(), nn.Linear(d_model, d_model))
        self.second_feed_forward = feed_forward(config)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None, context: Context | None = None) -> Tensor:
        """Frames [B, T, D] -> [B, T, D]."""
        x = framewise(self._begin, x)
        x = x + self.dropout(self.attention(self.attention_norm(x), lengths, context))
        return framewise(self._finish, x, self.convolution(framewise(self.before_convolution, x), lengths))

    def _begin(self, x: Tensor) -> Tensor:
        output: Tensor = x + 0.5 * self.dropout(self.feed_forward(x))
        return output

    def _finish(self, x: Tensor, convolved: Tensor) -> Tensor:
        x = x + self.dropout(self.after_convolution(convolved))
        x = x + 0.5 * self.dropout(self.second_feed_forward(x))
        normed: Tensor = self.norm(x)
        return normed

    def initial_state(self, batch_size: int = 1) -> ConformerState:
        """The state before the first frame."""
        convolution = self.convolution.initial_state(batch_size)
        none = no_frames(self, self.d_model, batch_size)
        return ConformerState(self.attention.initial_state(batch_size), none, convolution, none)

    @torch.no_grad()
    def step(self, x: Tensor, state: ConformerState, final: bool = False) -> tuple[Tensor, ConformerState]:
        """The frames [B, m, D] that have become ready after the next ones [B, n, D], and the new state."""
        x = self._begin(x)
        attended, attention = self.attention.step(self.attention_norm(x), state.attention, final)
        x, waiting = take(state.waiting, x, attended.shape[1])
        x = x + self.dropout(attended)
        convolved, convolution = self.convolution.step(self.before_convolution(x), state.convolution, final)
        x, waiting_too = take(state.waiting_for_convolution, x, convolved.shape[1])
        return self._finish(x, convolved), ConformerState(attention, waiting, convolution, waiting_too)

    def flush(self, state: ConformerState) -> Tensor:
        """The frames [B, m, D] still owed when no more will come."""
        return self.step(state.waiting[:, :0], state, final=True)[0]


class ConvolutionState(NamedTuple):
    """What a stream keeps of a convolution block."""

    convolution: Tensor
    waiting: Tensor


class ConvolutionBlock(nn.Module):
    """A full convolution over frames and features, added to what came in: the lecture's CNN."""

    def __init__(self, config: EncoderConfig, context: Context) -> None:
        super().__init__()
        self.d_model = config.d_model
        self.norm = nn.LayerNorm(config.d_model)
        self.convolution = FramesConvolution(config.d_model, config.convolution, groups=1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None, context: Context | None = None) -> Tensor:
        """Frames [B, T, D] -> [B, T, D]; a `context` is refused, for the window is part of the weights."""
        if context is not None:
            raise ValueError(f"a convolution's window is part of its weights: it cannot become ({context}).")
        return self._finish(x, self.convolution(self.norm(x), lengths))

    def _finish(self, x: Tensor, convolved: Tensor) -> Tensor:
        output: Tensor = x + self.dropout(silu(convolved))
        return output

    def initial_state(self, batch_size: int = 1) -> ConvolutionState:
        """The state before the first frame."""
        none = no_frames(self, self.d_model, batch_size)
        return ConvolutionState(self.convolution.initial_state(batch_size), none)

    @torch.no_grad()
    def step(self, x: Tensor, state: ConvolutionState, final: bool = False) -> tuple[Tensor, ConvolutionState]:
        """The frames [B, m, D] that have become ready after the next ones [B, n, D], and the new state."""
        convolved, convolution = self.convolution.step(self.norm(x), state.convolution, final)
        x, waiting = take(state.waiting, x, convolved.shape[1])
        return self._finish(x, convolved), ConvolutionState(convolution, waiting)

    def flush(self, state: ConvolutionState) -> Tensor:
        """The frames [B, m, D] still owed when no more will come."""
        return self.step(state.waiting[:, :0], state, final=True)[0]


def make_attention(config: EncoderConfig, context: Context) -> SelfAttention:
    """The attention layer of a block; positions that are added at the encoder's input are none of its own."""
    positions = "none" if config.position_encoding in ("sinusoidal", "learned") else config.position_encoding
    return SelfAttention(config.d_model, config.num_heads, context, positions, config.activation, config.backend)


def feed_forward(config: EncoderConfig) -> nn.Sequential:
    """Norm, linear, SiLU, linear: each frame by itself."""
    return nn.Sequential(
        nn.LayerNorm(config.d_model),
        nn.Linear(config.d_model, config.feed_forward_dim),
        nn.SiLU(),
        nn.Linear(config.feed_forward_dim, config.d_model),
    )


def no_frames(block: nn.Module, d_model: int, batch_size: int) -> Tensor:
    """Return frames [B, 0, D] of the dtype and device of a block."""
    return like(block).new_zeros(batch_size, 0, d_model)


def take(waiting: Tensor, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The oldest `count` frames of those waiting and the new ones `x` [B, n, D], and the rest."""
    queue = torch.cat((waiting, x), 1)
    return queue[:, :count], queue[:, count:].clone()

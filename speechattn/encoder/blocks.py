"""Blocks of an encoder: transformer, conformer and convolution. All are residual, with their norms first.

A block computes `forward` for whole rows, `step` for the next frames of a stream and `flush` for the pending ones at
its end, all with the same layers. In a stream attention and convolution return a frame only when all frames that it
depends on have arrived; until then `waiting` keeps the residual input that is added to their output.
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
    """The state of a transformer block in a stream."""

    attention: AttentionState
    waiting: Tensor  # [B, n, D]


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward layer, each with a residual connection (Vaswani et al. 2017, norms first)."""

    def __init__(self, config: EncoderConfig, context: Context) -> None:
        super().__init__()
        self.d_model = config.d_model
        self.attention_norm = nn.LayerNorm(config.d_model)
        self.attention = make_attention(config, context)
        self.feed_forward = feed_forward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None, context: Context | None = None) -> Tensor:
        """Return frames [B, T, D] for frames [B, T, D]."""
        return framewise(self._finish, x, self.attention(self.attention_norm(x), lengths, context))

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.dropout(attended)
        output: Tensor = x + self.dropout(self.feed_forward(x))
        return output

    def initial_state(self, batch_size: int = 1) -> TransformerState:
        """Return the state before the first frame."""
        none = no_frames(self, self.d_model, batch_size)
        return TransformerState(self.attention.initial_state(batch_size), none)

    @torch.no_grad()
    def step(self, x: Tensor, state: TransformerState, final: bool = False) -> tuple[Tensor, TransformerState]:
        """Return the frames [B, m, D] that are ready after the next ones [B, n, D], and the new state."""
        attended, attention = self.attention.step(self.attention_norm(x), state.attention, final)
        x, waiting = take(state.waiting, x, attended.shape[1])
        return self._finish(x, attended), TransformerState(attention, waiting)

    def flush(self, state: TransformerState) -> Tensor:
        """Return the pending frames [B, m, D] at the end of a stream."""
        return self.step(state.waiting[:, :0], state, final=True)[0]


class ConformerState(NamedTuple):
    """The state of a conformer block in a stream."""

    attention: AttentionState
    waiting: Tensor  # [B, n, D]
    convolution: Tensor
    waiting_for_convolution: Tensor


class ConformerBlock(nn.Module):
    """Half a feed-forward layer, attention, convolution, the other half, and a norm (Gulati et al. 2020, section 2).

    It has LayerNorm in place of the paper's BatchNorm in the convolution: statistics of a batch would mix rows, and
    include padding.
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
        """Return frames [B, T, D] for frames [B, T, D]."""
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
        """Return the state before the first frame."""
        convolution = self.convolution.initial_state(batch_size)
        none = no_frames(self, self.d_model, batch_size)
        return ConformerState(self.attention.initial_state(batch_size), none, convolution, none)

    @torch.no_grad()
    def step(self, x: Tensor, state: ConformerState, final: bool = False) -> tuple[Tensor, ConformerState]:
        """Return the frames [B, m, D] that are ready after the next ones [B, n, D], and the new state."""
        x = self._begin(x)
        attended, attention = self.attention.step(self.attention_norm(x), state.attention, final)
        x, waiting = take(state.waiting, x, attended.shape[1])
        x = x + self.dropout(attended)
        convolved, convolution = self.convolution.step(self.before_convolution(x), state.convolution, final)
        x, waiting_too = take(state.waiting_for_convolution, x, convolved.shape[1])
        return self._finish(x, convolved), ConformerState(attention, waiting, convolution, waiting_too)

    def flush(self, state: ConformerState) -> Tensor:
        """Return the pending frames [B, m, D] at the end of a stream."""
        return self.step(state.waiting[:, :0], state, final=True)[0]


class ConvolutionState(NamedTuple):
    """The state of a convolution block in a stream."""

    convolution: Tensor
    waiting: Tensor


class ConvolutionBlock(nn.Module):
    """A full convolution over frames and features with a residual connection: the CNN baseline."""

    def __init__(self, config: EncoderConfig, context: Context) -> None:
        super().__init__()
        self.d_model = config.d_model
        self.norm = nn.LayerNorm(config.d_model)
        self.convolution = FramesConvolution(config.d_model, config.convolution, groups=1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None, context: Context | None = None) -> Tensor:
        """Return frames [B, T, D]; a `context` raises ValueError, as the window is part of the weights."""
        if context is not None:
            raise ValueError(f"a convolution's window is part of its weights: it cannot become ({context}).")
        return self._finish(x, self.convolution(self.norm(x), lengths))

    def _finish(self, x: Tensor, convolved: Tensor) -> Tensor:
        output: Tensor = x + self.dropout(silu(convolved))
        return output

    def initial_state(self, batch_size: int = 1) -> ConvolutionState:
        """Return the state before the first frame."""
        none = no_frames(self, self.d_model, batch_size)
        return ConvolutionState(self.convolution.initial_state(batch_size), none)

    @torch.no_grad()
    def step(self, x: Tensor, state: ConvolutionState, final: bool = False) -> tuple[Tensor, ConvolutionState]:
        """Return the frames [B, m, D] that are ready after the next ones [B, n, D], and the new state."""
        convolved, convolution = self.convolution.step(self.norm(x), state.convolution, final)
        x, waiting = take(state.waiting, x, convolved.shape[1])
        return self._finish(x, convolved), ConvolutionState(convolution, waiting)

    def flush(self, state: ConvolutionState) -> Tensor:
        """Return the pending frames [B, m, D] at the end of a stream."""
        return self.step(state.waiting[:, :0], state, final=True)[0]


def make_attention(config: EncoderConfig, context: Context) -> SelfAttention:
    """Return the attention layer of a block, without a position encoding that the encoder adds at its input."""
    positions = "none" if config.position_encoding in ("sinusoidal", "learned") else config.position_encoding
    return SelfAttention(config.d_model, config.num_heads, context, positions, config.activation, config.backend)


def feed_forward(config: EncoderConfig) -> nn.Sequential:
    """Return a feed-forward layer: norm, linear, SiLU, linear."""
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
    """Return the oldest `count` frames of the waiting and the new ones `x` [B, n, D], and the rest."""
    queue = torch.cat((waiting, x), 1)
    return queue[:, :count], queue[:, count:].clone()

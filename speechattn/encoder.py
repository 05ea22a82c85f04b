"""Blocks and the encoder: frames [B, T, F] -> hidden [B, T, D], each layer looking through its own context."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speechattn import context as law
from speechattn.attention.layer import SelfAttention
from speechattn.attention.positions import sinusoidal
from speechattn.config import NO_SPLICE, EncoderConfig
from speechattn.context import Context
from speechattn.errors import ConfigError
from speechattn.lengths import check_lengths, full_lengths, zero_padding


class FramesEncoder(nn.Module):
    """What every encoder behind the one door shares: its config, and the derived numbers a user asks for."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config

    def reach(self, i: int, num_frames: int | None = None) -> tuple[int, int | None]:
        """Half-open range of input frames that output frame `i` depends on, through all layers."""
        return law.reach(self.config.contexts, i, num_frames)

    @property
    def lookahead(self) -> int | None:
        """The most future frames any output waits for; None is all of them."""
        return law.lookahead(self.config.contexts)

    def describe(self, hop_ms: float = 10.0) -> str:
        """What is seen back, waited for and kept, per layer and through the stack, in frames and ms."""
        contexts = self.config.contexts
        spliced = self.config.splice != NO_SPLICE
        names = ["splice"] * spliced + [str(layer + 1) for layer in range(len(contexts) - spliced)]
        return law.describe(contexts, hop_ms, names)

    @property
    def lookback(self) -> int | None:
        """The most past frames any output can see; None is all of them."""
        return law.lookback(self.config.contexts)

    @property
    def num_parameters(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def enter(self, input: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Frames [B, T, spliced_dim] without padding's rubbish, and checked lengths [B] or None.

        Raises:
            TypeError, ValueError: input is not [B, T, input_dim], or lengths do not fit it.
        """
        if input.ndim != 3 or input.shape[2] != self.config.input_dim:
            raise ValueError(
                f"input must be frames [B, T, {self.config.input_dim}], got {list(input.shape)}. "
                "Waveforms go through a frontend first: sa.LogMel(num_mels)(waveform)."
            )
        lengths = check_lengths(lengths, input.shape[0], input.shape[1])
        return splice(zero_padding(input, lengths), self.config.splice), lengths

    def extra_repr(self) -> str:
        contexts = self.config.contexts
        derived = {"reach": law.reach_width(contexts), "lookback": self.lookback, "lookahead": self.lookahead}
        told = [f"{name}={'unlimited' if frames is None else frames}" for name, frames in derived.items()]
        return ", ".join([*told, f"parameters={self.num_parameters:,}"])


def splice(input: Tensor, window: Context) -> Tensor:
    """Each frame beside its neighbours: [B, T, F] -> [B, T, (left + 1 + right) * F], zeros past the ends."""
    assert window.left is not None and window.right is not None
    if window == NO_SPLICE:
        return input
    padded = nn.functional.pad(input, (0, 0, window.left, window.right))
    return torch.cat([padded[:, shift : shift + input.shape[1]] for shift in range(len(window.offsets()))], 2)


class Block(nn.Module):
    """A pre-norm transformer block: attention, then a feed-forward layer, each added to what came in."""

    def __init__(self, config: EncoderConfig, context: Context) -> None:
        super().__init__()
        d_model = config.d_model
        in_layer = "none" if config.positions == "sinusoidal" else config.positions
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = SelfAttention(d_model, config.num_heads, context, in_layer, config.scores)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(d_model),
            nn.Linear(d_model, config.feed_forward_dim),
            nn.SiLU(),
            nn.Linear(config.feed_forward_dim, d_model),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, lengths: Tensor | None = None, context: Context | None = None) -> Tensor:
        """Frames [B, T, D] -> [B, T, D]."""
        x = x + self.dropout(self.attention(self.attention_norm(x), lengths, context))
        x = x + self.dropout(self.feed_forward(x))
        return x


class Encoder(FramesEncoder):
    """Truncated self-attention: frames [B, T, input_dim] -> (hidden [B, T, d_model], lengths [B]).

    Time and memory are linear in T when every context is limited. Another context can be given per call,
    without new weights: ``encoder(frames, lengths, context=Context.truncated(32, 0))``. With relative positions
    the table of biases is sized by the config's context, and farther keys share its last entry.

    Example:
        >>> encoder = Encoder(EncoderConfig(input_dim=80, d_model=32, num_layers=2))
        >>> hidden, lengths = encoder(torch.zeros(1, 50, 80))
        >>> hidden.shape, lengths.tolist()
        (torch.Size([1, 50, 32]), [50])
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        if config.block != "transformer":
            raise ConfigError(
                f'Encoder builds block="transformer", got {config.block!r}; sa.build_encoder(config) builds them all.'
            )
        self.input = nn.Linear(config.spliced_dim, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, context) for context in config.layer_contexts)
        self.norm = nn.LayerNorm(config.d_model)

    def forward(
        self, input: Tensor, lengths: Tensor | None = None, context: Context | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden [B, T, d_model] and lengths [B] int64; exactly 0 at and past `lengths`.

        `context` replaces the context of every layer for this call. Lengths of None mean all frames.

        Raises:
            TypeError, ValueError: input is not [B, T, input_dim], lengths do not fit it, or context is no Context.
        """
        if context is not None and not isinstance(context, Context):
            raise TypeError(
                f"context must be one speechattn.Context for all layers, got {context!r}. "
                "One per layer belongs into EncoderConfig(context=(...))."
            )
        x, lengths = self.enter(input, lengths)
        x = self.input(x)
        if self.config.positions == "sinusoidal":
            x = x + sinusoidal(torch.arange(x.shape[1], device=x.device), x.shape[2], x.dtype)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x, lengths, context)
        return zero_padding(self.norm(x), lengths), full_lengths(x) if lengths is None else lengths

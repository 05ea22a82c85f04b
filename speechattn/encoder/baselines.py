"""Baselines without attention: linear, MLP on spliced frames and BiGRU. The CNN is a block of `Encoder`."""

from __future__ import annotations

import itertools
from typing import NoReturn

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.dtypes import fitting
from speechattn.encoder.encoder import BLOCKS, Encoder
from speechattn.encoder.frames_encoder import FramesEncoder
from speechattn.lengths import lengths_of, zero_padding


def build_encoder(config: EncoderConfig) -> FramesEncoder:
    """Return the encoder that `config.block` names.

    Examples:
        >>> build_encoder(EncoderConfig(input_dim=40, block="mlp", splice=Context.truncated(5, 5))).receptive_field(100)
        (95, 106)
    """
    kinds = {"mlp": MLPEncoder, "linear": LinearEncoder, "bigru": BiGRUEncoder}
    return Encoder(config) if config.block in BLOCKS else kinds[config.block](config)


class BaselineEncoder(FramesEncoder):
    """Base class of encoders without attention: output is exactly 0 at and past each row's length."""

    def forward(
        self, input: Tensor, lengths: Tensor | None = None, context: Context | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return hidden frames and lengths as `Encoder.forward`; a `context` raises, as windows are part of weights."""
        if context is not None:
            raise ValueError(
                f'An encoder with block="{self.config.block}" has no context to replace, got ({context}): its weights '
                f"fix what a frame sees, see config.contexts."
            )
        self.input_layer.check(input)
        x, lengths = self.input_layer(fitting(input, self, "encoder"), lengths)
        return zero_padding(self.hidden(x, lengths), lengths), lengths_of(x, lengths)

    def initial_state(self, batch_size: int = 1) -> NoReturn:
        """Raise ValueError: a BiGRU waits for the end, and MLP and linear are for comparison."""
        raise ValueError(
            f'An encoder with block="{self.config.block}" does not stream; blocks that do are {", ".join(BLOCKS)}.'
        )

    def hidden(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return [B, T, d_model] for frames [B, T, entry_dim]; past a row's length any finite number is allowed."""
        raise NotImplementedError


class MLPEncoder(BaselineEncoder):
    """Fully connected layers on a window of spliced frames: the field's classic frame classifier."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        widths = [config.entry_dim] + [config.d_model] * config.num_layers
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Dropout(config.dropout))
                for before, after in itertools.pairwise(widths)
            )
        )

    def hidden(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return each frame transformed by itself."""
        output: Tensor = self.layers(x)
        return output


class LinearEncoder(BaselineEncoder):
    """One linear layer: the lower bound of what an encoder must add to the features."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.layers = nn.Linear(config.entry_dim, config.d_model)

    def hidden(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return each frame transformed by itself."""
        output: Tensor = self.layers(x)
        return output


class BiGRUEncoder(BaselineEncoder):
    """Recurrent layers in both directions, d_model / 2 features each: every frame depends on all frames.

    The backward direction begins at each row's own end, not in its padding.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(config.dropout)
        widths = [config.entry_dim] + [config.d_model] * (config.num_layers - 1)
        half = config.d_model // 2
        self.layers = nn.ModuleList(nn.GRU(width, half, batch_first=True, bidirectional=True) for width in widths)

    def hidden(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Return all frames of each row."""
        if x.shape[0] == 0 or x.shape[1] == 0:
            return x.new_zeros(*x.shape[:2], self.config.d_model)
        # A packed row has at least one frame; that of an empty row is set to zero afterwards.
        counts = lengths_of(x, lengths).clamp(min=1).cpu()
        for layer in self.layers:
            packed, _ = layer(pack_padded_sequence(x, counts, batch_first=True, enforce_sorted=False))
            x = self.dropout(pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])[0])
        return x

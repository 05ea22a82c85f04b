"""The lecture's other encoders behind the same door: a linear layer per frame, and an MLP on spliced frames."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder import Encoder, FramesEncoder
from speechattn.lengths import full_lengths, zero_padding


def build_encoder(config: EncoderConfig) -> FramesEncoder:
    """The encoder that `config.block` names.

    Example:
        >>> build_encoder(EncoderConfig(input_dim=40, block="mlp", context=Context.truncated(5, 5))).reach(100)
        (95, 106)
    """
    kinds = {"transformer": Encoder, "mlp": MLPEncoder, "linear": LinearEncoder}
    return kinds[config.block](config)


def splice(input: Tensor, context: Context) -> Tensor:
    """Each frame beside its neighbours: [B, T, F] -> [B, T, (left + 1 + right) * F], zeros past the ends."""
    assert context.left is not None and context.right is not None
    padded = nn.functional.pad(input, (0, 0, context.left, context.right))
    return torch.cat([padded[:, shift : shift + input.shape[1]] for shift in range(len(context.offsets()))], 2)


class MLPEncoder(FramesEncoder):
    """Fully connected layers on a window of spliced frames: the field's classic frame classifier."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        (self.context,) = config.contexts
        widths = [len(self.context.offsets()) * config.input_dim] + [config.d_model] * config.num_layers
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Dropout(config.dropout))
                for before, after in itertools.pairwise(widths)
            )
        )

    def forward(
        self, input: Tensor, lengths: Tensor | None = None, context: Context | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `Encoder.forward`; another `context` is refused, for the weights belong to one window."""
        if context is not None and context != self.context:
            raise ValueError(f"An MLP's window is part of its weights: it has ({self.context}), got ({context}).")
        lengths = self.check_input(input, lengths)
        hidden = self.layers(splice(zero_padding(input, lengths), self.context))
        return zero_padding(hidden, lengths), full_lengths(hidden) if lengths is None else lengths


class LinearEncoder(FramesEncoder):
    """One linear layer per frame: what the features alone are worth, without any context."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.layer = nn.Linear(config.input_dim, config.d_model)

    def forward(
        self, input: Tensor, lengths: Tensor | None = None, context: Context | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `Encoder.forward`; a `context` is refused, for a frame sees only itself."""
        if context is not None:
            raise ValueError(f"A linear encoder sees one frame and has no context, got ({context}).")
        lengths = self.check_input(input, lengths)
        hidden = self.layer(zero_padding(input, lengths))
        return zero_padding(hidden, lengths), full_lengths(hidden) if lengths is None else lengths

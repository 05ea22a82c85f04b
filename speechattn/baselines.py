"""The lecture's other encoders behind the same door: a linear layer per frame, and an MLP on spliced frames."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder import Encoder, FramesEncoder
from speechattn.lengths import full_lengths, zero_padding


def build_encoder(config: EncoderConfig) -> FramesEncoder:
    """The encoder that `config.block` names.

    Example:
        >>> build_encoder(EncoderConfig(input_dim=40, block="mlp", splice=Context.truncated(5, 5))).reach(100)
        (95, 106)
    """
    kinds = {"transformer": Encoder, "mlp": MLPEncoder, "linear": LinearEncoder}
    return kinds[config.block](config)


class SplicedEncoder(FramesEncoder):
    """Layers that look at one frame, beside the neighbours spliced to it at the input."""

    layers: nn.Module

    def forward(
        self, input: Tensor, lengths: Tensor | None = None, context: Context | None = None
    ) -> tuple[Tensor, Tensor]:
        """As `Encoder.forward`; a `context` is refused, for the window of these layers is part of their weights."""
        if context is not None:
            raise ValueError(
                f'An encoder with block="{self.config.block}" has no context to replace, got ({context}): '
                f"its window is its splice ({self.config.splice})."
            )
        x, lengths = self.enter(input, lengths)
        hidden: Tensor = self.layers(x)
        return zero_padding(hidden, lengths), full_lengths(hidden) if lengths is None else lengths


class MLPEncoder(SplicedEncoder):
    """Fully connected layers on a window of spliced frames: the field's classic frame classifier."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        widths = [config.spliced_dim] + [config.d_model] * config.num_layers
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(before, after), nn.ReLU(), nn.Dropout(config.dropout))
                for before, after in itertools.pairwise(widths)
            )
        )


class LinearEncoder(SplicedEncoder):
    """One linear layer: what the features are worth by themselves."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.layers = nn.Linear(config.spliced_dim, config.d_model)

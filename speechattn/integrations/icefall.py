"""An icefall encoder: a subclass of the `EncoderInterface` of the recipe that is running.

icefall's recipes are folders, each with a copy of `encoder_interface.py` that its training script imports by that bare
name. Made for the recipes that call `encoder(x, x_lens)` with [N, T, C], as pruned_transducer_stateless7 does; those
of zipformer hand over [T, N, C] and a mask, and are not served.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from speechattn.config import EncoderConfig
from speechattn.encoder.encoder import Encoder
from speechattn.integrations.requirements import needs

with needs("icefall's encoder_interface.py", "Run in a recipe's folder, or add it to PYTHONPATH."):
    from encoder_interface import EncoderInterface


class SpeechAttnEncoder(EncoderInterface):
    """The encoder as an `EncoderInterface`; `settings` are those of EncoderConfig."""

    def __init__(self, **settings: Any) -> None:
        nn.Module.__init__(self)  # EncoderInterface takes arguments in some recipes, none in others, and uses none
        self.encoder = Encoder(EncoderConfig.from_dict(settings))

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden [N, T // stack, d_model] and lengths [N] of frames [N, T, input_dim] with lengths [N]."""
        output: Tensor
        output, lengths = self.encoder(x, x_lens)
        return output, lengths

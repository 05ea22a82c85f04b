"""An icefall encoder: a subclass of the `EncoderInterface` of the recipe that is running.

Recipes of icefall are folders, each with a copy of `encoder_interface.py` that its training script imports by that
name. Supported are recipes that call `encoder(x, x_lens)` with [N, T, C], such as pruned_transducer_stateless7;
zipformer recipes pass [T, N, C] and a mask, and are not supported.
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
    """An encoder as an `EncoderInterface`; `settings` are those of EncoderConfig."""

    def __init__(self, **settings: Any) -> None:
        nn.Module.__init__(self)  # EncoderInterface has unused arguments in some recipes, none in others
        self.encoder = Encoder(EncoderConfig.from_dict(settings))

    def forward(self, x: Tensor, x_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden [N, T // stack, d_model] and lengths [N] of frames [N, T, input_dim] with lengths [N]."""
        output: Tensor
        output, lengths = self.encoder(x, x_lens)
        return output, lengths

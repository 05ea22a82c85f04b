"""A NeMo encoder: channels before time, and neural types.

NeMo builds from a config only what is in its own list of prefixes; the script that trusts us says so:

    from nemo.core.classes import common
    common.ALLOWED_TARGET_PREFIXES.append("speechattn.integrations.nemo.")
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from speechattn.config import EncoderConfig
from speechattn.encoder.encoder import Encoder
from speechattn.integrations.requirements import needs

with needs("NeMo", "Install it with: pip install 'nemo_toolkit[asr]'"):
    from nemo.core.classes.common import typecheck
    from nemo.core.classes.module import NeuralModule
    from nemo.core.neural_types import AcousticEncodedRepresentation, LengthsType, NeuralType, SpectrogramType
    from omegaconf import OmegaConf


class SpeechAttnEncoder(NeuralModule):
    """The encoder as a `NeuralModule`; `settings`, what stands beside `_target_`, are those of EncoderConfig."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        plain = OmegaConf.to_container(OmegaConf.create(settings))  # hydra gives its own dicts and lists
        self.encoder = Encoder(EncoderConfig.from_dict(plain))
        self._feat_out = self.encoder.config.d_model  # what NeMo's models read to size the decoder,
        self.subsampling_factor = self.encoder.config.stack  # and to turn frames into seconds

    @property
    def input_types(self) -> dict[str, Any]:
        """Ports of `forward`."""
        return {
            "audio_signal": NeuralType(("B", "D", "T"), SpectrogramType()),
            "length": NeuralType(("B",), LengthsType()),
        }

    @property
    def output_types(self) -> dict[str, Any]:
        """What `forward` gives."""
        return {
            "outputs": NeuralType(("B", "D", "T"), AcousticEncodedRepresentation()),
            "encoded_lengths": NeuralType(("B",), LengthsType()),
        }

    @typecheck()
    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden [B, d_model, T // stack] and lengths [B] of frames [B, input_dim, T] with lengths [B], by keyword."""
        output, lengths = self.encoder(audio_signal.transpose(1, 2), length)
        return output.transpose(1, 2), lengths

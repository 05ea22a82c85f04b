"""A NeMo encoder, with channels before time and neural types.

NeMo instantiates only classes whose prefix is in its own list, so a script must add this one:

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
    """An encoder as a `NeuralModule`; `settings`, the keys next to `_target_`, are those of EncoderConfig."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        # hydra passes dicts and lists of its own types
        plain_settings = OmegaConf.to_container(OmegaConf.create(settings))
        self.encoder = Encoder(EncoderConfig.from_dict(plain_settings))
        self._feat_out = self.encoder.config.d_model  # NeMo's models read it as the size of the decoder,
        self.subsampling_factor = self.encoder.config.stack  # and this to convert frames to seconds

    @property
    def input_types(self) -> dict[str, Any]:
        """Neural types of the arguments of `forward`."""
        return {
            "audio_signal": NeuralType(("B", "D", "T"), SpectrogramType()),
            "length": NeuralType(("B",), LengthsType()),
        }

    @property
    def output_types(self) -> dict[str, Any]:
        """Neural types of the output of `forward`."""
        return {
            "outputs": NeuralType(("B", "D", "T"), AcousticEncodedRepresentation()),
            "encoded_lengths": NeuralType(("B",), LengthsType()),
        }

    @typecheck()
    def forward(self, audio_signal: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden [B, d_model, T // stack] and lengths [B] of frames [B, input_dim, T]; call it with keywords."""
        output, lengths = self.encoder(audio_signal.transpose(1, 2), length)
        return output.transpose(1, 2), lengths

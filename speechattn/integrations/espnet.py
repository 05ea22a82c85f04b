"""An ESPnet encoder, offline and streaming.

A recipe finds it by name after a script has registered it:

    from espnet2.tasks.asr import encoder_choices
    encoder_choices.classes["speechattn"] = SpeechAttnEncoder  # encoder: speechattn
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from speechattn.config import EncoderConfig
from speechattn.encoder.encoder import Encoder
from speechattn.integrations.requirements import needs

with needs("ESPnet", "Install it with: pip install espnet"):
    from espnet2.asr.encoder.abs_encoder import AbsEncoder


class SpeechAttnEncoder(AbsEncoder):
    """An encoder as an `AbsEncoder`; `settings`, the `encoder_conf` of a recipe, are those of EncoderConfig.

    ESPnet sets `input_size` itself, to the number of features of its frontend.
    """

    def __init__(self, input_size: int, **settings: Any) -> None:
        super().__init__()
        self.encoder = Encoder(EncoderConfig.from_dict({**settings, "input_dim": input_size}))

    def output_size(self) -> int:
        """Features of an output frame."""
        return self.encoder.config.d_model

    def forward(
        self,
        xs_pad: Tensor,
        ilens: Tensor,
        prev_states: Any = None,
        is_final: bool = True,
        infer_mode: bool = False,
    ) -> tuple[Tensor, Tensor, Any]:
        """Return hidden [B, T // stack, d_model], lengths [B] and states of frames [B, T, input_size] with lengths [B].

        With `infer_mode` the frames are the next block of a stream, and `prev_states` its state, None at the start.
        The output holds the frames that are ready, and with `is_final` also the pending ones. The arguments are those
        of ESPnet's contextual block encoders, the only classes that its own streaming script accepts.
        """
        output: Tensor
        if not infer_mode:
            output, olens = self.encoder(xs_pad, ilens)
            return output, olens, None
        output, olens, states = self.encoder.infer(xs_pad, ilens, prev_states)
        if is_final:
            tail = self.encoder.flush(states)
            return torch.cat([output, tail], 1), olens + tail.shape[1], None
        return output, olens, states

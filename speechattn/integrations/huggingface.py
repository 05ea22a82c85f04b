"""A transformers model: config, weights and `AutoModel` as its users know them.

Importing this file registers the two classes, so AutoConfig and AutoModel find them by `model_type`. It is no feature
extractor: `input_features` are frames [B, T, F], of LogMel or of any other frontend.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from speechattn.config import EncoderConfig
from speechattn.encoder.encoder import Encoder
from speechattn.errors import UserError
from speechattn.integrations.requirements import needs

with needs("transformers", "Install it with: pip install transformers"):
    from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
    from transformers.modeling_outputs import BaseModelOutput


class SpeechAttnConfig(PretrainedConfig):
    """`encoder` is an EncoderConfig or what its `to_dict` wrote; it is checked at once and kept as plain JSON."""

    model_type = "speechattn"

    def __init__(self, encoder: EncoderConfig | Mapping[str, Any] | None = None, **common: Any) -> None:
        if not isinstance(encoder, EncoderConfig):  # transformers builds a default one to compare with
            encoder = EncoderConfig.from_dict({"input_dim": 80} if encoder is None else encoder)
        self.encoder = encoder.to_dict()
        super().__init__(**common)

    @property
    def hidden_size(self) -> int:
        """Features of an output frame, by the name transformers uses."""
        return EncoderConfig.from_dict(self.encoder).d_model


class SpeechAttnModel(PreTrainedModel):
    """The encoder as a `PreTrainedModel`; a head of yours is another one that holds it."""

    config_class = SpeechAttnConfig
    main_input_name = "input_features"

    def __init__(self, config: SpeechAttnConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(EncoderConfig.from_dict(config.encoder))
        self.post_init()

    def forward(
        self, input_features: Tensor, attention_mask: Tensor | None = None, return_dict: bool | None = None
    ) -> BaseModelOutput | tuple[Tensor]:
        """`last_hidden_state` [B, T // stack, d_model] of frames [B, T, input_dim]; in a tuple if return_dict is False.

        `attention_mask` [B, T] is 1 on real frames and 0 on the padding after them. It says nothing of the window,
        which is the config's.

        Raises:
            ValueError: the mask is not [B, T], or a real frame comes after padding.
        """
        lengths = None if attention_mask is None else mask_lengths(attention_mask, input_features)
        output, _ = self.encoder(input_features, lengths)
        return (output,) if return_dict is False else BaseModelOutput(last_hidden_state=output)

    @classmethod
    def from_pretrained(cls, *where: Any, output_loading_info: bool = False, **how: Any) -> Any:
        """As transformers does it, but an encoder that a checkpoint does not fill is an error, not a report.

        What else is missing, the head of a subclass say, is drawn anew and reported as ever.

        Raises:
            UserError: weights of the encoder are missing, or have another shape.
        """
        model, told = super().from_pretrained(*where, output_loading_info=True, **how)
        lost = {*told["missing_keys"], *(name for name, *_ in told["mismatched_keys"])}
        if lost := {name for name in lost if name.startswith("encoder.")}:
            raise UserError(
                f"the checkpoint does not fill {len(lost)} tensors of the encoder, {min(lost)} among them. "
                "Does its config belong to these weights?"
            )
        return (model, told) if output_loading_info else model

    def _init_weights(self, module: nn.Module) -> None:
        """A new layer starts as torch draws it, as in the encoder, and not from transformers' normal distribution."""
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()


def mask_lengths(mask: Tensor, frames: Tensor) -> Tensor:
    """Lengths [B] of a mask [B, T] that is 1 on real frames, then 0."""
    if mask.shape != frames.shape[:2]:
        raise ValueError(f"attention_mask must be {list(frames.shape[:2])} like the frames, got {list(mask.shape)}.")
    real = mask.bool()
    if not torch.compiler.is_compiling() and (real[:, 1:] & ~real[:, :-1]).any():
        raise ValueError("attention_mask must be 1 on real frames, then 0: padding comes after a row, got some before.")
    return real.sum(1)


AutoConfig.register(SpeechAttnConfig.model_type, SpeechAttnConfig, exist_ok=True)
AutoModel.register(SpeechAttnConfig, SpeechAttnModel, exist_ok=True)

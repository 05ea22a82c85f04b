"""A transformers model with its config, for `AutoConfig`, `AutoModel` and `Trainer`.

Importing this file registers the two classes, so AutoConfig and AutoModel find them by `model_type`. There is no
feature extractor: `input_features` are frames [B, T, F] of LogMel or of any other frontend.
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
    """A config whose `encoder` is an EncoderConfig or the result of its `to_dict`; it is kept as plain JSON."""

    model_type = "speechattn"

    def __init__(self, encoder: EncoderConfig | Mapping[str, Any] | None = None, **common: Any) -> None:
        if not isinstance(encoder, EncoderConfig):  # transformers compares with a default config
            encoder = EncoderConfig.from_dict({"input_dim": 80} if encoder is None else encoder)
        self.encoder = encoder.to_dict()
        super().__init__(**common)

    @property
    def hidden_size(self) -> int:
        """Features of an output frame."""
        return EncoderConfig.from_dict(self.encoder).d_model


class SpeechAttnModel(PreTrainedModel):
    """An encoder as a `PreTrainedModel`. A model with a head is another `PreTrainedModel` that contains it."""

    config_class = SpeechAttnConfig
    main_input_name = "input_features"

    def __init__(self, config: SpeechAttnConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(EncoderConfig.from_dict(config.encoder))
        self.post_init()

    def forward(
        self, input_features: Tensor, attention_mask: Tensor | None = None, return_dict: bool | None = None
    ) -> BaseModelOutput | tuple[Tensor]:
        """Return `last_hidden_state` [B, T // stack, d_model] of frames [B, T, input_dim], or a tuple of it.

        `attention_mask` [B, T] is 1 on real frames and 0 on the padding after them. The window of attention is not
        part of it: the config has that.

        Raises:
            ValueError: the mask is not [B, T], or a real frame comes after padding.
        """
        lengths = None if attention_mask is None else mask_lengths(attention_mask, input_features)
        output, _ = self.encoder(input_features, lengths)
        return (output,) if return_dict is False else BaseModelOutput(last_hidden_state=output)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **options: Any) -> Any:
        """Load as transformers does, but raise an error if weights of the encoder are missing.

        Other missing weights, such as the head of a subclass, are initialised and reported as usual.

        Raises:
            UserError: weights of the encoder are missing, or have another shape.
        """
        model, info = super().from_pretrained(*args, output_loading_info=True, **options)
        missing = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
        if missing := {name for name in missing if name.startswith("encoder.")}:
            raise UserError(
                f"the checkpoint does not fill {len(missing)} tensors of the encoder, {min(missing)} among them. "
                "Does its config belong to these weights?"
            )
        return (model, info) if output_loading_info else model

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise a layer as torch and `Encoder` do, not from transformers' normal distribution."""
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()


def mask_lengths(mask: Tensor, frames: Tensor) -> Tensor:
    """Return the lengths [B] of a mask [B, T] that is 1 on real frames, then 0."""
    if mask.shape != frames.shape[:2]:
        raise ValueError(f"attention_mask must be {list(frames.shape[:2])} like the frames, got {list(mask.shape)}.")
    real = mask.bool()
    if not torch.compiler.is_compiling() and (real[:, 1:] & ~real[:, :-1]).any():
        raise ValueError("attention_mask must be 1 on real frames, then 0, got padding before a real frame.")
    return real.sum(1)


AutoConfig.register(SpeechAttnConfig.model_type, SpeechAttnConfig, exist_ok=True)
AutoModel.register(SpeechAttnConfig, SpeechAttnModel, exist_ok=True)

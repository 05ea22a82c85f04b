"""Parts of a model that a caller gives: a module, or a class or function that returns one for a config."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder
from speechattn.model_config import ModelConfig

BlockFactory = Callable[[EncoderConfig, Context], nn.Module]
EncoderFactory = Callable[[EncoderConfig], nn.Module]
HeadFactory = Callable[[int, int], nn.Module]
Part = nn.Module | Callable[..., nn.Module]


def make_part(name: str, given: Part, config: ModelConfig) -> nn.Module:
    """Return the module of a part of a model.

    A module is returned as it is. Else `given` is called: an encoder with the EncoderConfig, a head with d_model and
    the number of classes, a frontend or a normalisation with the ModelConfig.

    Raises:
        TypeError: it returns no module.
    """
    if isinstance(given, nn.Module):
        return given
    if name == "head":
        made = given(config.encoder.d_model, len(config.classes))
    else:
        made = given(config.encoder if name == "encoder" else config)
    if not isinstance(made, nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module or return one, got {type(made).__name__}.")
    return made


def make_encoder(config: ModelConfig, encoder: Part | None, block: BlockFactory | None) -> nn.Module | None:
    """Return the encoder of a model with a block or an encoder of the caller, None without either.

    Raises:
        ValueError: both are given.
    """
    if encoder is not None and block is not None:
        raise ValueError("give a block or an encoder, not both: an encoder has its own blocks.")
    if block is None and encoder is None:
        return None
    made: nn.Module = Encoder(config.encoder, block) if encoder is None else make_part("encoder", encoder, config)
    if hasattr(made, "hop_ms"):
        made.hop_ms = config.framing.hop_ms  # type: ignore[assignment]
    return made

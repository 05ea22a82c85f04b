"""Parts of a run that its caller gives in code: a block, an encoder, a head, an augmentation."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from speechattn.model_config import ModelConfig
from speechattn.models.factories import BlockFactory, EncoderFactory, HeadFactory, make_encoder, make_part
from speechattn.models.speech_model import SpeechModel
from speechattn.training.trainer import Augmentation


@dataclass(frozen=True)
class OwnParts:
    """What replaces the usual parts of a run; None is the usual one."""

    block: BlockFactory | None = None
    encoder: EncoderFactory | None = None
    head: HeadFactory | None = None
    augment: Augmentation | None = None

    def build(self, config: ModelConfig) -> SpeechModel:
        """Return a new model with these parts."""
        model = SpeechModel(config)
        encoder = make_encoder(config, self.encoder, self.block)
        parts = {"encoder": encoder, "head": self.head and make_part("head", self.head, config)}
        for name, part in parts.items():
            if part is not None:
                setattr(model, name, part)
        return model

    def names(self) -> dict[str, str]:
        """Return what the given parts are called, by which a run that continues knows them."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _name(part) for name, part in given.items() if part is not None}


def _name(part: Any) -> str:
    """Return the name of a class or function, of another object that of its class."""
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}.{named.__qualname__}"

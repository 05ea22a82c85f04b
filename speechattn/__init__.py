"""speechattn: truncated self-attention over speech, exact, linear in time and memory.

The map: every public name, listed by hand, imported when it is first used. `import speechattn` costs nothing.

    import speechattn as sa
    encoder = sa.Encoder(sa.EncoderConfig(input_dim=80, context=sa.Context.truncated(left=64, right=64)))
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechattn.attention.convolution import attention_from_convolution, convolution_from_attention
    from speechattn.attention.functional import attention, attention_weights, packed_attention
    from speechattn.attention.layer import SelfAttention
    from speechattn.attention.positions import resize_relative_bias
    from speechattn.baselines import build_encoder
    from speechattn.config import EncoderConfig, ModelConfig
    from speechattn.context import Context
    from speechattn.data.audio import load_audio
    from speechattn.data.librispeech import LibriSpeech
    from speechattn.encoder import Encoder
    from speechattn.errors import ConfigError, DataError, MemoryLimitError, UserError
    from speechattn.framing import Framing
    from speechattn.frontend.logmel import LogMel
    from speechattn.frontend.mfcc import MFCC
    from speechattn.frontend.normalize import Normalize
    from speechattn.guard import memory_limit
    from speechattn.heads import CTC, FrameClassifier, UtteranceClassifier
    from speechattn.long import encode_long
    from speechattn.model import SpeechModel, load
    from speechattn.planning.plan import Plan, longest_frames, plan
    from speechattn.segmenting import Segments
    from speechattn.shipped import small_model
    from speechattn.stream import FrameLabels, Stream

__version__ = "0.1.0"

_HOMES = {
    "Context": "context",
    "Framing": "framing",
    "EncoderConfig": "config",
    "ModelConfig": "config",
    "ConfigError": "errors",
    "MemoryLimitError": "errors",
    "UserError": "errors",
    "DataError": "errors",
    "attention": "attention.functional",
    "attention_weights": "attention.functional",
    "packed_attention": "attention.functional",
    "attention_from_convolution": "attention.convolution",
    "convolution_from_attention": "attention.convolution",
    "resize_relative_bias": "attention.positions",
    "SelfAttention": "attention.layer",
    "LogMel": "frontend.logmel",
    "MFCC": "frontend.mfcc",
    "Normalize": "frontend.normalize",
    "load_audio": "data.audio",
    "LibriSpeech": "data.librispeech",
    "Encoder": "encoder",
    "build_encoder": "baselines",
    "FrameClassifier": "heads",
    "UtteranceClassifier": "heads",
    "CTC": "heads",
    "SpeechModel": "model",
    "load": "model",
    "Stream": "stream",
    "FrameLabels": "stream",
    "Segments": "segmenting",
    "small_model": "shipped",
    "encode_long": "long",
    "plan": "planning.plan",
    "Plan": "planning.plan",
    "longest_frames": "planning.plan",
    "memory_limit": "guard",
}

__all__ = [
    "CTC",
    "MFCC",
    "ConfigError",
    "Context",
    "DataError",
    "Encoder",
    "EncoderConfig",
    "FrameClassifier",
    "FrameLabels",
    "Framing",
    "LibriSpeech",
    "LogMel",
    "MemoryLimitError",
    "ModelConfig",
    "Normalize",
    "Plan",
    "Segments",
    "SelfAttention",
    "SpeechModel",
    "Stream",
    "UserError",
    "UtteranceClassifier",
    "attention",
    "attention_from_convolution",
    "attention_weights",
    "build_encoder",
    "convolution_from_attention",
    "encode_long",
    "load",
    "load_audio",
    "longest_frames",
    "memory_limit",
    "packed_attention",
    "plan",
    "resize_relative_bias",
    "small_model",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'speechattn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"speechattn.{_HOMES[name]}"), name)
    globals()[name] = value  # the next look-up is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Map(ModuleType):
    """This package, in which `attention` is the function, whatever was imported before.

    The import system would bind the name to the package speechattn/attention as soon as a file of it is imported.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "attention" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Map

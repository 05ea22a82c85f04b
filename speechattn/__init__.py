"""speechattn: truncated self-attention over speech, exact, linear in time and memory.

Every public name is listed here, and imported when it is first used: `import speechattn` takes neither torch nor numpy.

    import speechattn as sa
    encoder = sa.Encoder(sa.EncoderConfig(input_dim=80, context=sa.Context.truncated(left=64, right=64)))
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechattn.attention.functional import attention, attention_weights, packed_attention
    from speechattn.attention.positions import resize_relative_bias
    from speechattn.config import EncoderConfig
    from speechattn.context import Context
    from speechattn.data.audio.files import load_audio
    from speechattn.data.librispeech import LibriSpeech
    from speechattn.decoding.smoothing import Smoothing
    from speechattn.decoding.viterbi import viterbi
    from speechattn.encoder.baselines import build_encoder
    from speechattn.encoder.convolution_as_attention import attention_from_convolution, convolution_from_attention
    from speechattn.encoder.encoder import Encoder
    from speechattn.encoder.self_attention import SelfAttention
    from speechattn.errors import ConfigError, DataError, MemoryLimitError, UserError
    from speechattn.framing import Framing
    from speechattn.frontend.logmel import LogMel
    from speechattn.frontend.mfcc import MFCC
    from speechattn.frontend.normalize import Normalize
    from speechattn.model_config import ModelConfig
    from speechattn.models.heads import CTC, FrameClassifier, UtteranceClassifier
    from speechattn.models.pretrained import load_pretrained
    from speechattn.models.speech_model import SpeechModel, load
    from speechattn.planning.estimate import Estimate, estimate, max_frames
    from speechattn.planning.memory_limit import memory_limit
    from speechattn.streaming.labels import FrameLabels
    from speechattn.streaming.long_form import encode_long
    from speechattn.streaming.segmenter import LabelledSegment, Segments
    from speechattn.streaming.stream import Stream
    from speechattn.training.config import TrainConfig
    from speechattn.training.run import train

__version__ = "0.1.0"

_MODULES = {
    "Context": "context",
    "Framing": "framing",
    "EncoderConfig": "config",
    "ModelConfig": "model_config",
    "ConfigError": "errors",
    "MemoryLimitError": "errors",
    "UserError": "errors",
    "DataError": "errors",
    "attention": "attention.functional",
    "attention_weights": "attention.functional",
    "packed_attention": "attention.functional",
    "attention_from_convolution": "encoder.convolution_as_attention",
    "convolution_from_attention": "encoder.convolution_as_attention",
    "resize_relative_bias": "attention.positions",
    "SelfAttention": "encoder.self_attention",
    "LogMel": "frontend.logmel",
    "MFCC": "frontend.mfcc",
    "Normalize": "frontend.normalize",
    "load_audio": "data.audio.files",
    "LibriSpeech": "data.librispeech",
    "Encoder": "encoder.encoder",
    "build_encoder": "encoder.baselines",
    "FrameClassifier": "models.heads",
    "UtteranceClassifier": "models.heads",
    "CTC": "models.heads",
    "SpeechModel": "models.speech_model",
    "load": "models.speech_model",
    "Smoothing": "decoding.smoothing",
    "viterbi": "decoding.viterbi",
    "Stream": "streaming.stream",
    "FrameLabels": "streaming.labels",
    "Segments": "streaming.segmenter",
    "LabelledSegment": "streaming.segmenter",
    "load_pretrained": "models.pretrained",
    "encode_long": "streaming.long_form",
    "estimate": "planning.estimate",
    "Estimate": "planning.estimate",
    "max_frames": "planning.estimate",
    "memory_limit": "planning.memory_limit",
    "TrainConfig": "training.config",
    "train": "training.run",
}

_RENAMED = {
    "plan": "estimate",
    "Plan": "Estimate",
    "longest_frames": "max_frames",
    "adapters": "integrations",
    "small_model": 'load_pretrained("small-en-phones")',
}
"""Names before 0.1, which fail with the present one in the message."""

__all__ = [
    "CTC",
    "MFCC",
    "ConfigError",
    "Context",
    "DataError",
    "Encoder",
    "EncoderConfig",
    "Estimate",
    "FrameClassifier",
    "FrameLabels",
    "Framing",
    "LabelledSegment",
    "LibriSpeech",
    "LogMel",
    "MemoryLimitError",
    "ModelConfig",
    "Normalize",
    "Segments",
    "SelfAttention",
    "Smoothing",
    "SpeechModel",
    "Stream",
    "TrainConfig",
    "UserError",
    "UtteranceClassifier",
    "attention",
    "attention_from_convolution",
    "attention_weights",
    "build_encoder",
    "convolution_from_attention",
    "encode_long",
    "estimate",
    "load",
    "load_audio",
    "load_pretrained",
    "max_frames",
    "memory_limit",
    "packed_attention",
    "resize_relative_bias",
    "train",
    "viterbi",
]


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        raise AttributeError(f"module 'speechattn' has no attribute {name!r}: use sa.{_RENAMED[name]}.")
    if name not in _MODULES:
        raise AttributeError(f"module 'speechattn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"speechattn.{_MODULES[name]}"), name)
    globals()[name] = value  # the next look-up is an ordinary one
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


class _Package(ModuleType):
    """This package, with `attention` bound to the function.

    The import system binds the name to the package speechattn/attention as soon as a file of it is imported.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "attention" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

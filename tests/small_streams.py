"""A small model whose labels change, noise to push, and the labels of a stream: shared by the tests of streams."""

from typing import Any

import torch

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel
from speechattn.streaming.labels import FrameLabels

CLASSES = ("SIL", "AA", "B", "CH", "D")


def model_of(head: Any = "frames", features: Any = "logmel", framing: Any = None, **wanted: Any) -> Any:
    """A small model whose labels change from frame to frame, as an untrained one's would not."""
    encoder: dict[str, Any] = {
        "d_model": 16,
        "num_heads": 2,
        "num_layers": 2,
        "d_ff": 32,
        "context": Context.chunked(4, 9, 2),
    }
    encoder.update(wanted)
    config = ModelConfig(
        CLASSES,
        EncoderConfig(12, **encoder),
        12,
        features=features,
        num_ceps=4,
        head=head,
        framing=Framing() if framing is None else framing,
    )
    model = SpeechModel(config).eval()
    with torch.no_grad():
        logits = model(sound(3)[None])[0][0]
        output: Any = model.head.output
        output.weight *= 30
        output.bias -= 30 * (logits.mean(0) - output.bias) + output.bias
    return model


def sound(seconds: Any, rate: Any = 16_000, seed: int = 0) -> Any:
    """Noise of changing loudness."""
    generator = torch.manual_seed(seed)
    loudness = torch.rand(round(seconds * 20) + 1, generator=generator).repeat_interleave(rate // 20)
    count = round(seconds * rate)
    return torch.randn(count, generator=generator) * 0.1 * loudness[:count]


def labels_of(stream: Any, pieces: Any, **options: Any) -> Any:
    """All labels of pushes of these pieces and of the flush."""
    labels = FrameLabels()
    for piece in pieces:
        labels += stream.push(piece, **options)
    return labels + stream.flush()


def logits_of(model: Any, waveform: Any) -> Any:
    """Logits [T, C] of the model on the whole waveform [N]."""
    with torch.no_grad():
        return model(waveform[None])[0][0]

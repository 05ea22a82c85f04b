"""What an encoder costs by its settings alone: latency and memory. Standard library only; no model is built."""

from __future__ import annotations

import math

from speechattn.config import EncoderConfig
from speechattn.errors import ConfigError
from speechattn.planning.estimate import estimate
from speechattn.receptive_field import lookahead
from speechattn.training.config import EncoderKind, TrainConfig

AUDIO_S = 60.0
"""Length of the audio that `memory_mb` is for, in seconds."""


def encoder_costs(config: TrainConfig, kind: EncoderKind) -> dict[str, float | None]:
    """Return "latency_ms" and "memory_mb" of one encoder of a run; None where they are not known.

    The latency is algorithmic: the most audio after a frame that its output waits for, the frontend's deltas included,
    infinite for an encoder that needs the end of the recording.
    The memory is what the planner (`speechattn plan`) estimates for a pass over AUDIO_S of audio without gradients,
    with the weights. The peak of the training process says nothing about an encoder: most of it is Python and torch.

    Examples:
        >>> encoder_costs(TrainConfig(left=15, right=15, num_layers=4, splice=3), "truncated")["latency_ms"]
        630.0
    """
    try:
        settings = config.of_encoder(kind) if kind in config.baselines else config
        model = settings.model_config(kind, ("SIL", "SPEECH"), "ctc" if config.stack > 1 else "frames")
    except ConfigError:  # settings of another version
        return {"latency_ms": None, "memory_mb": None}
    waiting, hop_ms = lookahead(model.contexts), model.framing.hop_ms
    latency = math.inf if waiting is None else waiting * hop_ms
    return {"latency_ms": latency, "memory_mb": _memory_mb(model.encoder, hop_ms)}


def _memory_mb(encoder: EncoderConfig, hop_ms: float) -> float | None:
    """Return the memory of a pass over AUDIO_S, None for encoders that the planner does not know."""
    try:
        made = estimate(encoder, frames=round(1000 * AUDIO_S / hop_ms), hop_ms=hop_ms)
    except ConfigError:
        return None
    return (made.peak_bytes + made.weight_bytes) / 1e6

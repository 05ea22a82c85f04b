"""What an encoder costs by its settings alone: latency and memory. Standard library only; no model is built."""

from __future__ import annotations

import contextlib
from typing import Any

from speechattn.config import EncoderConfig
from speechattn.errors import ConfigError
from speechattn.framing import HOP_MS
from speechattn.planning.estimate import estimate
from speechattn.receptive_field import lookahead
from speechattn.training.config import EncoderKind, TrainConfig

AUDIO_S = 60.0
"""Length of the audio that `memory_mb` is for, in seconds."""


def encoder_costs(config: TrainConfig, kind: EncoderKind) -> dict[str, float | None]:
    """Return "latency_ms" and "memory_mb" of one encoder of a run; None where it is unknown, or there is no limit.

    The latency is algorithmic: the most audio after a frame that its output waits for, the frontend's deltas included.
    The memory is what the planner (`speechattn plan`) estimates for a pass over AUDIO_S of audio without gradients,
    with the weights. The peak of the training process says nothing about an encoder: most of it is Python and torch.

    Examples:
        >>> encoder_costs(TrainConfig(left=15, right=15, num_layers=4, splice=3), "truncated")["latency_ms"]
        630.0
    """
    with contextlib.suppress(ConfigError):
        settings = config.of_encoder(kind) if kind in config.baselines else config
        model = settings.model_config(kind, ("SIL", "SPEECH"), "ctc" if config.stack > 1 else "frames")
        return costs_of(model.encoder, lookahead(model.contexts), model.framing.hop_ms)
    return {"latency_ms": None, "memory_mb": None}


def costs_of(encoder: EncoderConfig, waiting: int | None, hop_ms: float = HOP_MS) -> dict[str, float | None]:
    """Return the costs of an encoder that waits for `waiting` frames of `hop_ms` after each."""
    made = estimate(encoder, frames=round(1000 * AUDIO_S / hop_ms), hop_ms=hop_ms)
    memory = (made.peak_bytes + made.weight_bytes) / 1e6
    return {"latency_ms": None if waiting is None else waiting * hop_ms, "memory_mb": memory}


def format_latency(latency_ms: Any) -> str:
    """Return a latency as text.

    Examples:
        >>> format_latency(190.0), format_latency(None)
        ('190 ms', 'the whole recording')
    """
    return "the whole recording" if latency_ms is None else f"{latency_ms:,.0f} ms"

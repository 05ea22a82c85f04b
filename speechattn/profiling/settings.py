"""The settings of a profile: encoders by name, their size, and everything that makes two runs comparable.

No torch here: mistakes in the settings are reported before it is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.errors import ConfigError
from speechattn.framing import Framing
from speechattn.system.serialization import check_choice, from_dict, take_numbers, to_dict

ENCODERS = ("truncated", "chunked", "full", "streaming", "emformer", "conformer")
MODEL = "model"
"""The encoder of a saved model as it is."""
PEERS = ("emformer", "conformer")
"""torchaudio's, of the same size."""
MODES = ("inference", "training")
DEVICES = ("cpu", "cuda")
MAX_SECONDS = 366 * 24 * 3600.0
"""A year; longer is taken for a typing error."""
CONFORMER_TAPS = 31


@dataclass(frozen=True)
class Settings:
    """Settings of one profile: measurements with equal settings are comparable.

    Args:
        config: size of all encoders; its context is that of "model".
        left, right: of "truncated", and "chunked" has the same left.
        chunk: frames of a chunk, and of an Emformer segment.
        push: frames per step of "streaming".
        memory_bytes: limit of a process, the interpreter included; on CUDA, of the device. None is the machine's.
        timeout_s: limit of one pass, in seconds.
        rounds: passes that are timed; the fastest counts.
    """

    config: EncoderConfig
    left: int = 64
    right: int = 64
    chunk: int = 64
    push: int = 100
    mode: str = "inference"
    batch_size: int = 1
    device: str = "cpu"
    threads: int = 1
    rounds: int = 1
    memory_bytes: int | None = None
    timeout_s: float = 600.0
    model: str | None = None
    frames_per_second: float = Framing().frames_per_second

    def __post_init__(self) -> None:
        take_numbers(self)
        check_choice("profile", "mode", self.mode, MODES)
        check_choice("profile", "device", self.device, DEVICES)
        for name in ("chunk", "push", "batch_size", "threads", "rounds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"profile.{name} must be 1 or more, got {getattr(self, name)}.")

    def frames(self, seconds: float) -> int:
        """Return the number of frames in so many seconds."""
        return round(seconds * self.frames_per_second)

    def encoder_config(self, encoder: str) -> EncoderConfig:
        """Return the config of one of speechattn's encoders, without dropout."""
        contexts = {
            "truncated": Context.truncated(self.left, self.right),
            "chunked": Context.chunked(self.chunk, self.left),
            "full": Context.full(),
        }
        context = contexts.get(encoder, self.config.context)
        return replace(self.config, context=context, dropout=0.0, layer_dropout=0.0)

    def describe(self, encoder: str) -> str:
        """Return a description of an encoder for a table."""
        if encoder == "emformer":
            sides = f"{self.left // 2} before and {self.right // 2} after them"
            return f"torchaudio's Emformer: segments of {self.chunk} frames, {sides}"
        if encoder == "conformer":
            return f"torchaudio's Conformer: every frame sees every frame, {CONFORMER_TAPS} taps"
        config = self.encoder_config(encoder)
        seen = str(config.layer_contexts[0]) if len(set(config.layer_contexts)) == 1 else "a context a layer"
        pushed = f", {self.push} frames a push, outputs dropped" if encoder == "streaming" else ""
        return f"speechattn's {config.block}: {seen}{pushed}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        data: dict[str, Any] = to_dict(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Settings:
        """Return the settings that `to_dict` wrote; an unknown key is a ConfigError."""
        return from_dict(cls, data)

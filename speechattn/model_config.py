"""ModelConfig, the settings of a SpeechModel: frontend, encoder and head. Standard library only, as config.py.

training/config.py has the settings of a training run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.errors import ConfigError
from speechattn.framing import Framing
from speechattn.system.serialization import check_choice, from_dict, take_numbers, to_dict, whole

FLAVORS = ("kaldi", "librosa")
FEATURES = ("logmel", "mfcc")
NUM_MELS = 80
"""Default number of mel bands: of LogMel, MFCC, ModelConfig and `speechattn features`."""
HEADS = ("frames", "utterance", "ctc")
POOLINGS = ("mean", "attention")
DELTA = Context.truncated(left=2, right=2)
"""The window of one order of deltas: 5 frames, as in HTK and Kaldi."""


@dataclass(frozen=True)
class ModelConfig:
    """The settings of a SpeechModel: frontend, encoder and the classes of the head.

    Raises:
        ConfigError: a setting has no such value, or is impossible together with another.
    """

    classes: tuple[str, ...]
    """Names of the classes, in the order of the logits."""
    encoder: EncoderConfig
    """The encoder; its input_dim must be `num_features`."""
    num_mels: int = NUM_MELS
    """Mel bands of a frame."""
    flavor: str = "kaldi"
    """Toolkit whose log-mel is computed: "kaldi" or "librosa", as in `LogMel`."""
    framing: Framing = field(default_factory=Framing)
    """Sample rate in Hz, window and hop in samples."""
    features: str = "logmel"
    """"logmel", or "mfcc": cepstra of the mel bands with their deltas."""
    num_ceps: int = 13
    """Cepstra of a frame with features="mfcc"; at most num_mels."""
    deltas: int = 2
    """Orders of deltas with features="mfcc"; each waits for 2 more frames."""
    head: str = "frames"
    """"frames", a label for every frame; "utterance", one for all of them; or "ctc", a shorter sequence, whose blank is
    classes[0]."""
    pooling: str = "mean"
    """How head="utterance" joins its frames: "mean", or "attention", a mean with learned weights."""
    pooling_queries: int = 1
    """Means with weights of their own, with pooling="attention"."""

    def __post_init__(self) -> None:
        take_numbers(self)
        object.__setattr__(self, "classes", tuple(self.classes))
        check_choice("ModelConfig", "head", self.head, HEADS)
        check_choice("ModelConfig", "pooling", self.pooling, POOLINGS)
        if self.pooling != "mean" and self.head != "utterance":
            raise ConfigError(f'ModelConfig.pooling has no effect with head={self.head!r}: use head="utterance".')
        if whole("ModelConfig.pooling_queries", self.pooling_queries) != 1 and self.pooling != "attention":
            raise ConfigError(
                f'ModelConfig.pooling_queries has no effect with pooling={self.pooling!r}: use pooling="attention".'
            )
        check_choice("ModelConfig", "flavor", self.flavor, FLAVORS)
        check_features("ModelConfig", self.features, self.num_mels, self.num_ceps, self.deltas)
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"ModelConfig.classes must be 2 or more different names, got {list(self.classes)}.")
        if self.encoder.stack != 1 and self.head == "frames":
            size = self.encoder.stack
            slower = self.framing.stacked(size)
            raise ConfigError(
                f"ModelConfig.encoder.stack must be 1, for classes are labels of every {self.framing.hop_ms:g} ms: got "
                f"{size}, one output in {slower.hop_ms:g} ms. Use stack=1 with "
                f"Framing(sample_rate={slower.sample_rate}, hop={slower.hop}), "
                'or head="ctc" or "utterance", whose labels have no rate.'
            )
        if self.encoder.input_dim != self.num_features:
            rule = "num_mels" if self.features == "logmel" else "num_ceps * (1 + deltas) of MFCC"
            raise ConfigError(
                f"ModelConfig.encoder.input_dim must equal {rule} = {self.num_features}, got {self.encoder.input_dim}."
            )

    @property
    def num_features(self) -> int:
        """Features of a frame."""
        return count_features(self.features, self.num_mels, self.num_ceps, self.deltas)

    @property
    def contexts(self) -> tuple[Context, ...]:
        """Contexts of all that mixes frames, next to the waveform first: the deltas of MFCC, then the encoder's."""
        return (DELTA,) * self._delta_orders + self.encoder.contexts

    @property
    def context_names(self) -> tuple[str, ...]:
        """Names of `contexts`."""
        return tuple(f"delta {order + 1}" for order in range(self._delta_orders)) + self.encoder.context_names

    @property
    def _delta_orders(self) -> int:
        return self.deltas if self.features == "mfcc" else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON types."""
        data: dict[str, Any] = to_dict(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Return the config that `to_dict` wrote; an unknown key is a ConfigError."""
        return from_dict(cls, data)


def count_features(features: str, num_mels: int, num_ceps: int, deltas: int) -> int:
    """Return the features of a frame: mel bands, or cepstra and `deltas` orders of their deltas."""
    return num_ceps * (1 + deltas) if features == "mfcc" else num_mels


def check_features(owner: str, features: str, num_mels: int, num_ceps: int, deltas: int) -> None:
    """Raise ConfigError if no frontend computes such frames."""
    check_choice(owner, "features", features, FEATURES)
    whole(f"{owner}.num_mels", num_mels)
    if features != "mfcc":
        return
    if whole(f"{owner}.num_ceps", num_ceps) > num_mels:
        raise ConfigError(f"{owner}.num_ceps must be 1 to num_mels = {num_mels}, got {num_ceps}.")
    whole(f"{owner}.deltas", deltas, 0)

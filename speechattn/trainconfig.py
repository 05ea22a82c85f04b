"""How the frame-classifier recipe is run, as one frozen dataclass. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.errors import ConfigError
from speechattn.plain import check_choice, from_dict, to_dict

EncoderKind = Literal["truncated", "full", "linear", "mlp"]


@dataclass(frozen=True)
class TrainConfig:
    """One run of the frame-classifier recipe: data, encoder, training.

    Args:
        data: "synthetic" (made with espeak-ng, no download), or a folder in LibriSpeech layout.
        subset: the subset to train on, for example train-clean-100.
        alignments: folder with <subset>.phones.ctm or <subset>.frame_labels.txt.
        test_subsets: further subsets of `data` to report at the end, for example test-other.
        output: folder of the run; the same command again resumes it.
        encoder: truncated (a window per layer), full (no window), mlp (11 spliced frames), linear (one frame).
        baselines: encoders trained beside it on the same data and budget, for the table.
        left: frames a layer sees before each frame.
        right: frames a layer sees after each frame.
        chunk: frames that share one view; 1 is a window per frame.
        splice: neighbours on each side put beside a frame at the input of the attention encoders.
        d_model: features inside the encoder.
        num_heads: attention heads.
        num_layers: blocks.
        d_ff: width of the feed-forward layers.
        positions: none, sinusoidal, rotary or relative.
        scores: softmax, or relu.
        dropout: on the residual branches.
        mlp_width: hidden width of the MLP baseline, which has two hidden layers.
        num_mels: mel bins of a frame.
        flavor: kaldi or librosa log-mel.
        epochs: passes over the training data.
        batch_frames: frames in a batch, padding included.
        crop_frames: longest piece of an utterance in training; pieces are cut anew each epoch.
        learning_rate: peak, reached after warmup_steps, then a half cosine to 0.
        warmup_steps: updates until the peak.
        weight_decay: of the encoder's weight matrices.
        augment: warp, tilt, noise and masks on the training frames.
        stretch: training pieces are played this much faster or slower, 0.1 is 10 percent.
        valid_fraction: share of the speakers held out for validation.
        valid_every: epochs between two validations.
        checkpoint_seconds: seconds between two checkpoints.
        seed: of everything random.
        threads: of torch; 0 leaves torch's own choice.
        device: auto, cpu or cuda.
    """

    data: str = "synthetic"
    subset: str = "train"
    alignments: str | None = None
    test_subsets: tuple[str, ...] = ()
    output: str = "runs/frame_classifier"
    encoder: EncoderKind = "truncated"
    baselines: tuple[EncoderKind, ...] = ("linear", "mlp")
    left: int = 15
    right: int = 15
    chunk: int = 1
    splice: int = 3
    d_model: int = 160
    num_heads: int = 8
    num_layers: int = 4
    d_ff: int = 640
    positions: Literal["none", "sinusoidal", "rotary", "relative"] = "relative"
    scores: Literal["softmax", "relu"] = "softmax"
    dropout: float = 0.1
    mlp_width: int = 384
    num_mels: int = 40
    flavor: Literal["kaldi", "librosa"] = "kaldi"
    epochs: int = 40
    batch_frames: int = 2000
    crop_frames: int = 400
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    augment: bool = True
    stretch: float = 0.0
    valid_fraction: float = 0.1
    valid_every: int = 2
    checkpoint_seconds: float = 60.0
    seed: int = 0
    threads: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        least: dict[str, float] = {"epochs": 1, "batch_frames": 1, "crop_frames": 10, "valid_every": 1, "mlp_width": 1}
        least |= {"threads": 0, "seed": 0, "warmup_steps": 0, "weight_decay": 0.0, "checkpoint_seconds": 0.0}
        for name, minimum in least.items():
            if not minimum <= getattr(self, name) < math.inf:  # nor NaN
                raise ConfigError(f"TrainConfig.{name} must be {minimum} or more, got {getattr(self, name)}.")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"TrainConfig.learning_rate must be positive, got {self.learning_rate}.")
        if not 0 <= self.stretch < 1:
            raise ConfigError(f"TrainConfig.stretch must be in [0, 1), got {self.stretch}.")
        if not 0 < self.valid_fraction < 1:
            raise ConfigError(f"TrainConfig.valid_fraction must be between 0 and 1, got {self.valid_fraction}.")
        for kind in (self.encoder, *self.baselines):
            check_choice("TrainConfig", "encoder", kind, get_args(EncoderKind))
            try:
                self.encoder_config(kind)  # an impossible encoder is refused now, not after an hour
            except (TypeError, ValueError) as error:
                raise error if isinstance(error, ConfigError) else ConfigError(str(error)) from error
        if self.data != "synthetic" and self.alignments is None:
            raise ConfigError(
                f"TrainConfig.alignments is missing: --data {self.data} needs --alignments DIR "
                f"with {self.subset}.phones.ctm or {self.subset}.frame_labels.txt."
            )

    def encoder_config(self, kind: EncoderKind) -> EncoderConfig:
        """The encoder of this run that `kind` names."""
        if kind == "linear":
            return EncoderConfig(self.num_mels, self.d_model, block="linear", dropout=self.dropout)
        if kind == "mlp":
            window = Context.truncated(5, 5)
            return EncoderConfig(
                self.num_mels, self.mlp_width, num_layers=2, splice=window, block="mlp", dropout=self.dropout
            )
        context = Context.full() if kind == "full" else Context(self.left, self.right, self.chunk)
        return EncoderConfig(
            self.num_mels,
            self.d_model,
            self.num_heads,
            self.num_layers,
            self.d_ff,
            context,
            positions=self.positions,
            scores=self.scores,
            dropout=self.dropout,
            splice=Context.truncated(self.splice, self.splice),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        data: dict[str, Any] = to_dict(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainConfig:
        """The config that `to_dict` wrote; an unknown key is a ConfigError."""
        return from_dict(cls, data)

"""What is built and how it is trained, as frozen dataclasses. Standard library only.

Every config turns into plain JSON with `to_dict` and back with a strict `from_dict` (see plain.py), and an
impossible combination is refused when the config is built, not after an hour of work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from speechattn.context import Context
from speechattn.errors import ConfigError
from speechattn.framing import Framing
from speechattn.plain import check_choice, from_dict, to_dict

BLOCKS = ("transformer", "mlp", "linear")
POSITIONS = ("none", "sinusoidal", "rotary", "relative")
SCORES = ("softmax", "relu")
FLAVORS = ("kaldi", "librosa")

EncoderKind = Literal["truncated", "full", "linear", "mlp"]

DEFAULT_CONTEXT = Context.truncated(left=64, right=64)
NO_SPLICE = Context.truncated(left=0, right=0)


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder: frames [B, T, input_dim] -> [B, T, d_model].

    Args:
        input_dim: features of an input frame.
        d_model: features inside and at the output.
        num_heads: attention heads; divides d_model.
        num_layers: blocks, or hidden layers of an MLP.
        d_ff: width of the feed-forward layers; None is 4 * d_model.
        context: what a frame may see in one layer, or one Context per layer; only attention uses it.
        block: "transformer", or the baselines "mlp" and "linear".
        positions: "none", "sinusoidal", "rotary" or "relative".
        scores: "softmax" or "relu".
        dropout: probability, on the residual branches.
        splice: neighbours put beside each frame at the input: Context.truncated(5, 5) makes 11 frames of one.
    """

    input_dim: int
    d_model: int = 256
    num_heads: int = 4
    num_layers: int = 6
    d_ff: int | None = None
    context: Context | tuple[Context, ...] = DEFAULT_CONTEXT
    block: str = "transformer"
    positions: str = "relative"
    scores: str = "softmax"
    dropout: float = 0.1
    splice: Context = NO_SPLICE

    def __post_init__(self) -> None:
        for name in ("input_dim", "d_model", "num_heads", "num_layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"EncoderConfig.{name} must be 1 or more, got {getattr(self, name)}.")
        if self.d_ff is not None and self.d_ff < 1:
            raise ConfigError(f"EncoderConfig.d_ff must be 1 or more, or None for 4 * d_model, got {self.d_ff}.")
        check_choice("EncoderConfig", "block", self.block, BLOCKS)
        check_choice("EncoderConfig", "positions", self.positions, POSITIONS)
        check_choice("EncoderConfig", "scores", self.scores, SCORES)
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"EncoderConfig.dropout must be in [0, 1), got {self.dropout}.")
        if isinstance(self.context, list):
            object.__setattr__(self, "context", tuple(self.context))
        contexts = self.context if isinstance(self.context, tuple) else (self.context,)
        for context in (*contexts, self.splice):
            if not isinstance(context, Context):
                raise ConfigError(
                    f"EncoderConfig.context must be a Context, or one per layer, and splice one; got {context!r}. "
                    "Try Context.truncated(left=64, right=64)."
                )
        if isinstance(self.context, tuple) and len(self.context) != self.num_layers:
            raise ConfigError(
                f"EncoderConfig.context must be one Context or one per layer: got {len(self.context)} "
                f"for num_layers={self.num_layers}."
            )
        if self.block == "transformer":
            self._check_heads()
        if not self.splice.limited or self.splice.chunk != 1:
            raise ConfigError(
                f"EncoderConfig.splice is a window of frames at the input: it must be "
                f"Context.truncated(left, right) with two limits, got ({self.splice})."
            )

    def _check_heads(self) -> None:
        if self.d_model % self.num_heads:
            near = [heads for heads in range(1, self.d_model + 1) if self.d_model % heads == 0]
            nearest = min(near, key=lambda heads: abs(heads - self.num_heads))
            raise ConfigError(
                f"EncoderConfig.num_heads must divide d_model: {self.d_model} features do not split into "
                f"{self.num_heads} heads; use num_heads={nearest}."
            )
        if self.positions == "rotary" and self.d_model // self.num_heads % 2:
            raise ConfigError(
                f'EncoderConfig.positions="rotary" turns pairs of features: a head must be even, '
                f"got d_model / num_heads = {self.d_model // self.num_heads}."
            )

    @property
    def contexts(self) -> tuple[Context, ...]:
        """Everything that mixes frames, next to the input first: the splice, if there is one, then each layer."""
        splice = () if self.splice == NO_SPLICE else (self.splice,)
        return splice + (self.layer_contexts if self.block == "transformer" else ())

    @property
    def layer_contexts(self) -> tuple[Context, ...]:
        """The context of each of the num_layers attention layers."""
        return self.context if isinstance(self.context, tuple) else (self.context,) * self.num_layers

    @property
    def spliced_dim(self) -> int:
        """Features of an input frame beside its neighbours."""
        return self.input_dim * len(self.splice.offsets())

    @property
    def feed_forward_dim(self) -> int:
        """d_ff, or 4 * d_model."""
        return 4 * self.d_model if self.d_ff is None else self.d_ff

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        data: dict[str, Any] = to_dict(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EncoderConfig:
        """The config that `to_dict` wrote; an unknown key is a ConfigError."""
        return from_dict(cls, data)


@dataclass(frozen=True)
class ModelConfig:
    """Frontend, encoder and the classes of the head: all that a saved model needs besides its weights."""

    classes: tuple[str, ...]
    encoder: EncoderConfig
    num_mels: int = 80
    flavor: str = "kaldi"
    framing: Framing = field(default_factory=Framing)

    def __post_init__(self) -> None:
        check_choice("ModelConfig", "flavor", self.flavor, FLAVORS)
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise ConfigError(f"ModelConfig.classes must be 2 or more different names, got {list(self.classes)}.")
        if self.encoder.input_dim != self.num_mels:
            raise ConfigError(
                f"ModelConfig.encoder.input_dim must equal num_mels, got {self.encoder.input_dim} and {self.num_mels}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        data: dict[str, Any] = to_dict(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """The config that `to_dict` wrote; an unknown key is a ConfigError."""
        return from_dict(cls, data)


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

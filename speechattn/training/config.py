"""How the frame-classifier recipe is run, as one frozen dataclass. Standard library only."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

from speechattn.config import EncoderConfig, ModelConfig, check_features, count_features
from speechattn.context import Context
from speechattn.errors import ConfigError
from speechattn.system.serialization import check_choice, from_dict, take_numbers, to_dict

EncoderKind = Literal["truncated", "conformer", "full", "cnn", "bigru", "mlp", "linear"]
Positions = Literal["none", "sinusoidal", "learned", "rotary", "relative", "alibi"]


@dataclass(frozen=True)
class TrainConfig:
    """One run of the frame-classifier recipe: data, encoder, training.

    Args:
        data: "synthetic" (made with espeak-ng, no download), or a folder in LibriSpeech layout.
        subset: the subset to train on, for example train-clean-100.
        alignments: folder with <subset>.phones.ctm, <subset>.words.ctm, *.TextGrid, *.alignment.txt or
            <subset>.frame_labels.txt; labels speech does without, and hears where it is loud.
        labels: what a frame is: phones (41), words (the num_words most frequent, and <OTHER>), speech (or silence).
        num_words: words that have a class of their own, with labels words.
        test_subsets: further subsets of `data` to report at the end, for example test-other.
        output: folder of the run; the same command again resumes it.
        encoder: truncated (transformer, the same window in every layer), conformer (these windows and convolutions),
            full (transformer without windows), cnn, bigru, mlp (spliced frames), linear (one frame).
        baselines: encoders trained beside it on the same data and budget, for the table.
        left: frames a layer sees before each frame.
        right: frames a layer sees after each frame.
        chunk: frames that share one view; 1 is a window per frame.
        splice: neighbours on each side put beside a frame at the input of the attention encoders.
        d_model: features inside the encoder.
        num_heads: attention heads.
        num_layers: blocks.
        d_ff: width of the feed-forward layers.
        position_encoding: none, sinusoidal, learned, rotary, relative or alibi.
        activation: softmax, or relu.
        dropout: on the residual branches.
        layer_dropout: share of the blocks that a training step skips.
        conv_kernel: taps of a conformer's convolutions.
        conv_lookahead: how many of them lie in the future; symmetric is half.
        cnn_kernel: taps of the convolutions of the CNN baseline, which has half as many layers again.
        gru_width: features of the BiGRU baseline, which has half as many layers.
        mlp_width: hidden width of the MLP baseline, which has two hidden layers.
        mlp_splice: frames on each side that the MLP sees.
        max_frames: rows of the table of learned positions: the longest recording, in frames.
        gradient_checkpointing: compute activations again for the gradient instead of keeping them.
        features: logmel, or mfcc: cepstra of the mel bins with their deltas, which wait for two more frames an order.
        num_mels: mel bins of a frame.
        num_ceps: cepstra of a frame of mfcc.
        deltas: orders of slopes beside the cepstra of mfcc.
        flavor: kaldi or librosa, of the mel bins.
        epochs: passes over the training data.
        batch_frames: frames in a batch, padding included.
        crop_frames: longest piece of an utterance in training; pieces are cut anew each epoch.
        learning_rate: peak, reached after warmup_steps, then a half cosine to 0.
        warmup_steps: updates until the peak.
        weight_decay: of the encoder's weight matrices.
        augment: warp, tilt, noise and masks on the training frames.
        stretch: training pieces are played this much faster or slower, 0.1 is 10 percent.
        speed_perturb: training utterances are resampled to these speeds, a copy for each; 0.9 1.0 1.1 is Kaldi's
            choice and makes an epoch three times as long.
        noise: folder of sound files; each copy comes again with a piece of one mixed in.
        noise_snr_db: lowest and highest ratio of speech to that noise.
        valid_fraction: share of the speakers held out for validation.
        valid_every: epochs between two validations.
        checkpoint_seconds: seconds between two checkpoints.
        seed: of everything random.
        threads: of torch; 0 leaves torch's own choice.
        device: auto, cpu or cuda.
        max_bad: share of each subset's utterances that may be unusable; they are left out and counted. None is 0.01 of
            the training subset, and none at all of a test subset.
    """

    data: str = "synthetic"
    subset: str = "train"
    alignments: str | None = None
    labels: Literal["phones", "words", "speech"] = "phones"
    num_words: int = 100
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
    position_encoding: Positions = "relative"
    activation: Literal["softmax", "relu"] = "softmax"
    dropout: float = 0.1
    layer_dropout: float = 0.0
    conv_kernel: int = 15
    conv_lookahead: int | Literal["symmetric"] = "symmetric"
    cnn_kernel: int = 7
    gru_width: int = 256
    mlp_width: int = 384
    mlp_splice: int = 5
    max_frames: int = 4096
    gradient_checkpointing: bool = False
    features: Literal["logmel", "mfcc"] = "logmel"
    num_mels: int = 40
    num_ceps: int = 13
    deltas: int = 2
    flavor: Literal["kaldi", "librosa"] = "kaldi"
    epochs: int = 40
    batch_frames: int = 2000
    crop_frames: int = 400
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    augment: bool = True
    stretch: float = 0.0
    speed_perturb: tuple[float, ...] = (1.0,)
    noise: str | None = None
    noise_snr_db: tuple[float, float] = (5.0, 20.0)
    valid_fraction: float = 0.1
    valid_every: int = 2
    checkpoint_seconds: float = 60.0
    seed: int = 0
    threads: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_bad: float | None = None

    def __post_init__(self) -> None:
        take_numbers(self)
        for name, hint in get_type_hints(TrainConfig).items():
            if hint is int and type(getattr(self, name)) is not int:
                raise ConfigError(f"TrainConfig.{name} must be a whole number, got {getattr(self, name)!r}.")
        # Completion in a shell leaves a slash at the end.
        object.__setattr__(self, "subset", self.subset and posixpath.normpath(self.subset))
        object.__setattr__(self, "test_subsets", tuple(map(posixpath.normpath, self.test_subsets)))
        least: dict[str, float] = {
            "epochs": 1,
            "batch_frames": 1,
            "crop_frames": 10,
            "valid_every": 1,
            "mlp_width": 1,
            "cnn_kernel": 1,
            "gru_width": 2,
            "mlp_splice": 0,
        }
        least |= {"threads": 0, "seed": 0, "warmup_steps": 0, "weight_decay": 0.0, "checkpoint_seconds": 0.0}
        least |= {"num_words": 1}
        for name, minimum in least.items():
            if not minimum <= getattr(self, name) < math.inf:  # nor NaN
                raise ConfigError(f"TrainConfig.{name} must be {minimum} or more, got {getattr(self, name)}.")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"TrainConfig.learning_rate must be positive, got {self.learning_rate}.")
        if self.max_bad is not None and not 0 <= self.max_bad <= 1:
            raise ConfigError(f"TrainConfig.max_bad must be a share from 0 to 1, got {self.max_bad}: 5 % is 0.05.")
        if not 0 <= self.stretch < 1:
            raise ConfigError(f"TrainConfig.stretch must be in [0, 1), got {self.stretch}.")
        check_features("TrainConfig", self.features, self.num_mels, self.num_ceps, self.deltas)
        self._check_copies()
        if not 0 < self.valid_fraction < 1:
            raise ConfigError(f"TrainConfig.valid_fraction must be between 0 and 1, got {self.valid_fraction}.")
        kinds = (self.encoder, *self.baselines)
        longest = round(self.crop_frames / (1 - self.stretch))
        if self.learns_positions and self.max_frames < longest:
            raise ConfigError(
                f"TrainConfig.max_frames={self.max_frames} rows of learned positions are too few for pieces of up to "
                f"{longest} frames (crop_frames={self.crop_frames}): use max_frames={longest} or more."
            )
        if "bigru" in kinds and self.gru_width % 2:
            raise ConfigError(
                f"TrainConfig.gru_width must be even, half for each direction, got {self.gru_width}: use "
                f"{self.gru_width + 1}."
            )
        for kind in kinds:
            check_choice("TrainConfig", "encoder", kind, get_args(EncoderKind))
            try:
                self.encoder_config(kind)  # an impossible encoder is refused now, not after an hour
            except (TypeError, ValueError) as error:
                raise error if isinstance(error, ConfigError) else ConfigError(str(error)) from error
        check_choice("TrainConfig", "labels", self.labels, ("phones", "words", "speech"))
        if self.data != "synthetic" and self.labels != "speech" and self.alignments is None:
            rows = f"{self.subset}.frame_labels.txt" if self.labels == "phones" else "*.alignment.txt"
            raise ConfigError(
                f"TrainConfig.alignments is missing: --data {self.data} needs --alignments DIR "
                f"with {self.subset}.{self.labels}.ctm, *.TextGrid or {rows}; only --labels speech does without."
            )

    def _check_copies(self) -> None:
        speeds = self.speed_perturb
        if not speeds or len(set(speeds)) != len(speeds):
            raise ConfigError(f"TrainConfig.speed_perturb must be different speeds, 1.0 for none, got {list(speeds)}.")
        for speed in speeds:
            if not 0.5 <= speed <= 2 or speed != round(speed, 2):
                raise ConfigError(
                    f"TrainConfig.speed_perturb must be speeds from 0.5 to 2 with at most two decimals, got {speed}."
                )
        ratio = self.noise_snr_db
        if len(ratio) != 2 or not -math.inf < ratio[0] <= ratio[1] < math.inf:
            raise ConfigError(
                f"TrainConfig.noise_snr_db must be the lowest and the highest ratio in dB, got {list(ratio)}."
            )

    @property
    def learns_positions(self) -> bool:
        """Whether an encoder of this run has a table of positions, which ends."""
        attention = {"truncated", "conformer", "full"}
        return self.position_encoding == "learned" and not attention.isdisjoint((self.encoder, *self.baselines))

    @property
    def num_features(self) -> int:
        """Features of a frame."""
        return count_features(self.features, self.num_mels, self.num_ceps, self.deltas)

    def encoder_config(self, kind: EncoderKind) -> EncoderConfig:
        """The encoder of this run that `kind` names.

        The conformer's two feed-forward layers have a third of `d_ff` each: about as many parameters as a transformer.
        """
        shared: dict[str, Any] = {"input_dim": self.num_features, "dropout": self.dropout}
        if kind == "linear":
            return EncoderConfig(**shared, d_model=self.d_model, block="linear")
        if kind == "mlp":
            window = Context.truncated(self.mlp_splice, self.mlp_splice)
            return EncoderConfig(**shared, d_model=self.mlp_width, num_layers=2, block="mlp", splice=window)
        shared |= {"splice": Context.truncated(self.splice, self.splice)}
        if kind == "bigru":
            deep = max(1, self.num_layers // 2)
            return EncoderConfig(**shared, d_model=self.gru_width, num_layers=deep, block="bigru")
        shared |= {"layer_dropout": self.layer_dropout, "gradient_checkpointing": self.gradient_checkpointing}
        if kind == "cnn":
            shared |= {"conv_kernel": self.cnn_kernel, "conv_lookahead": self.cnn_kernel // 2}
            deep = self.num_layers + self.num_layers // 2
            return EncoderConfig(**shared, d_model=self.d_model, num_layers=deep, block="cnn")
        conformer = kind == "conformer"
        if conformer:
            shared |= {"block": "conformer", "conv_kernel": self.conv_kernel, "conv_lookahead": self.conv_lookahead}
        return EncoderConfig(
            **shared,
            d_model=self.d_model,
            num_heads=self.num_heads,
            num_layers=self.num_layers,
            d_ff=max(1, self.d_ff // 3) if conformer else self.d_ff,
            context=Context.full() if kind == "full" else Context(self.left, self.right, self.chunk),
            position_encoding=self.position_encoding,
            activation=self.activation,
            max_frames=self.max_frames,
        )

    def model_config(self, kind: EncoderKind, classes: tuple[str, ...]) -> ModelConfig:
        """The model of this run around the encoder that `kind` names."""
        return ModelConfig(
            classes,
            self.encoder_config(kind),
            self.num_mels,
            self.flavor,
            features=self.features,
            num_ceps=self.num_ceps,
            deltas=self.deltas,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        data: dict[str, Any] = to_dict(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainConfig:
        """The config that `to_dict` wrote; an unknown key is a ConfigError."""
        return from_dict(cls, data)

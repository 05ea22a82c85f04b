"""Settings of a training run, as one frozen dataclass. Standard library only."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args, get_type_hints

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig, count_features
from speechattn.system.serialization import check_choice, from_dict, take_numbers, to_dict
from speechattn.training.baseline_settings import parse_baseline_setting
from speechattn.training.config_checks import check_copies, check_encoders, check_numbers, check_task, check_types
from speechattn.training.trick_settings import check_tricks

TaskName = Literal["frames", "utterance", "ctc"]
Labels = Literal["phones", "words", "speech", "classes", "speakers", "characters"]
EncoderKind = Literal["truncated", "conformer", "full", "cnn", "bigru", "mlp", "linear"]
PositionEncoding = Literal["none", "sinusoidal", "learned", "rotary", "relative", "alibi"]


@dataclass(frozen=True)
class TrainConfig:
    """One run of a recipe: task, data, encoder, training."""

    # Old names of settings, for error messages.
    RENAMED: ClassVar[Mapping[str, str]] = {"output": "out", "positions": "position_encoding", "scores": "activation"}

    task: TaskName = "frames"
    """frames (a label for each frame), utterance (one label) or ctc (a sequence of labels, without their times)."""
    data: str = "synthetic"
    """"synthetic" (made with espeak-ng, no download), or a folder in LibriSpeech layout, or one of sound files with a
    <name>.txt each."""
    subset: str = "train"
    """The subset to train on, for example train-clean-100; "." is the folder `data` itself, of sound files."""
    alignments: str | None = None
    """Folder with <subset>.phones.ctm, <subset>.words.ctm, *.TextGrid, *.alignment.txt or <subset>.frame_labels.txt.
    Without it, phones and words are aligned with the transcripts first, as by speechattn align, into <out>/alignments.
    Labels speech needs none: a detector of loud sound replaces it."""
    lexicon: str | None = None
    """Pronunciation dictionary for alignments that the run makes; other words are looked up in espeak-ng."""
    labels: Labels = "phones"
    """Of a frame: phones (41), words (the num_words most frequent, and <OTHER>), or speech and silence. Of an
    utterance: classes (of `layout`) or speakers. With ctc: phones or characters, from the transcripts."""
    unknown_characters: Literal["stop", "drop"] = "stop"
    """Characters of a transcript that are not a to z, apostrophe or space, with labels characters: stop and list them,
    or drop them; dashes then separate words."""
    layout: str = "auto"
    """Where the paths of sound files have class and speaker, with labels classes: for example
    "{class}_{speaker}_{take}" or "{class}/{speaker}/{file}"; auto takes the one of the known layouts that fits."""
    num_words: int = 100
    """Words that have a class of their own, with labels words."""
    test_subsets: tuple[str, ...] = ()
    """Further subsets of `data` to report at the end, for example test-other."""
    max_hours: float | None = None
    """Largest part of the subset to train and validate on, in hours, shared equally by its speakers; more hours hold
    all utterances of fewer hours. None is all of it."""
    speakers: tuple[str, ...] = ()
    """Ids of the speakers to train and validate on; none is all of the subset."""
    out: str = "runs/frame_classifier"
    """Folder of the run; the same command resumes it."""
    encoder: EncoderKind = "truncated"
    """truncated (transformer, the same window in every layer), conformer (these windows and convolutions), full
    (transformer without windows), cnn, bigru, mlp (spliced frames) or linear (one frame)."""
    baselines: tuple[EncoderKind, ...] = ("linear", "mlp")
    """Further encoders, trained on the same data for as many epochs, for comparison."""
    init: str | None = None
    """Folder of a saved model, or of a run, whose weights the run's own encoder starts from: normalisation, encoder,
    and the head where the classes are equal. Baselines start from random weights."""
    refit_normalize: bool = False
    """With init, normalise by the training frames of this run instead of those of the saved model: for recordings of
    another band or level."""
    freeze_encoder: bool = False
    """Train only the head, with init: the encoder stays as it is and computes without dropout."""
    left: int = 15
    """Context of a layer before each frame, in frames."""
    right: int = 15
    """Context of a layer after each frame, in frames."""
    chunk: int = 1
    """Frames that share one view; 1 is a window per frame."""
    stack: int = 1
    """Frames that are joined to one at the input of the encoder; more than 1 not with task frames."""
    pooling: Literal["mean", "attention"] = "mean"
    """How the frames of an utterance become one, with task utterance."""
    pooling_queries: int = 1
    """Weighted means of the frames, each with weights of its own, with pooling attention."""
    splice: int = 3
    """Neighbours on each side that are joined to a frame at the input of the attention encoders, in frames."""
    d_model: int = 160
    """Features inside the encoder."""
    num_heads: int = 8
    """Attention heads."""
    num_layers: int = 4
    """Blocks."""
    d_ff: int = 640
    """Hidden features of the feed-forward layers."""
    position_encoding: PositionEncoding = "relative"
    """none, sinusoidal, learned, rotary, relative or alibi."""
    activation: Literal["softmax", "relu"] = "softmax"
    """Activation of the attention scores."""
    dropout: float = 0.1
    """Share of the features of each residual branch that a training step sets to 0."""
    layer_dropout: float = 0.0
    """Share of the blocks that a training step skips."""
    conv_kernel: int = 15
    """Taps of a conformer's convolutions, in frames."""
    conv_lookahead: int | Literal["symmetric"] = "symmetric"
    """Taps of a conformer's convolutions that lie in the future; symmetric is half of them."""
    cnn_kernel: int = 7
    """Taps of the convolutions of the CNN baseline, which has 1.5 times as many layers."""
    gru_width: int = 256
    """Features of the BiGRU baseline, which has half as many layers."""
    mlp_width: int = 384
    """Hidden features of the MLP baseline, which has two hidden layers."""
    mlp_splice: int = 5
    """Neighbours on each side of a frame in the input of the MLP, in frames."""
    max_frames: int = 4096
    """Rows of the table of position_encoding learned: the longest recording, in frames."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass instead of keeping them: less memory, more time."""
    sample_rate: int = Framing().sample_rate
    """Sample rate of the model, in Hz; recordings of another rate are resampled. Recordings of 8000 Hz need 8000 here:
    at 16000 a fourth of their mel bins is empty, and noise that training adds there is in no recording."""
    features: Literal["logmel", "mfcc"] = "logmel"
    """logmel, or mfcc: cepstra of the mel bins and their deltas. Each order of deltas adds two frames of latency."""
    num_mels: int = 40
    """Mel bins of a frame. The results of this recipe are for 40; LogMel has a default of its own."""
    num_ceps: int = 13
    """Cepstra of a frame, with features mfcc."""
    deltas: int = 2
    """Orders of time derivatives, with features mfcc: 0 is none, 2 is deltas and delta-deltas."""
    flavor: Literal["kaldi", "librosa"] = "kaldi"
    """Definition of the mel bins."""
    baseline_settings: tuple[str, ...] = ()
    """Settings of one baseline that differ from those of the run, each as ENCODER.SETTING=VALUE, for example
    mlp.dropout=0.3 mlp.augment=false mlp.epochs=12: a baseline is compared at settings that suit it."""
    epochs: int = 40
    """Passes over the training data."""
    batch_frames: int = 2000
    """Frames in a batch, padding included."""
    accumulate: int = 1
    """Parts of a batch, by rows, whose gradients are added up before an update: the same update with less memory."""
    crop_frames: int = 400
    """Longest piece of an utterance in training, in frames; pieces are cut anew in each epoch."""
    learning_rate: float = 3e-3
    """Peak, reached after warmup_steps; then half a cosine down to 0."""
    warmup_steps: int = 100
    """Updates until the peak of the learning rate."""
    weight_decay: float = 0.01
    """Decay of the encoder's weight matrices per step, times the learning rate."""
    augment: bool = True
    """Warp, tilt, noise and masks on the training frames."""
    augment_strength: float = 1.0
    """Scale of the warp, filter, gain and masks over bins of augment, and of the noise's amplitude; 0 is no change."""
    stretch: float = 0.0
    """Largest change of speed of a training piece, drawn for each: 0.1 is 10 percent slower or faster."""
    speed_perturb: tuple[float, ...] = (1.0,)
    """Speeds to which training utterances are resampled, a copy for each. Kaldi's choice is 0.9 1.0 1.1, which makes an
    epoch three times as long."""
    noise: str | None = None
    """Folder of sound files; each training utterance gets a second copy with a piece of one mixed in."""
    noise_snr_db: tuple[float, float] = (5.0, 20.0)
    """Lowest and highest ratio of speech to that noise, in dB."""
    on_the_fly: bool = False
    """Draw the speed of each training utterance, and whether it has noise, anew in every epoch, instead of making a
    copy for each; frames are made by `workers` while the model trains, and not kept."""
    cache: str | None = None
    """Folder where features are kept, so that the next start needs no audio; None is $SPEECHATTN_CACHE, else
    ~/.cache/speechattn. 100 hours with 40 bins take 5.9 GB."""
    feature_dtype: Literal["float32", "float16"] = "float32"
    """Type of the numbers in the cache; float16 takes half the space."""
    workers: int | Literal["auto"] = "auto"
    """Processes that make the features; 0 is this one, auto is one for each processor unless there is little to do."""
    valid_fraction: float = 0.1
    """Share of the speakers held out for validation, or of the utterances with split utterances."""
    valid_speakers: tuple[str, ...] = ()
    """Ids of the speakers held out for validation, in place of a share."""
    split: Literal["speakers", "utterances"] = "speakers"
    """speakers: no validation speaker is in the training data. utterances: every one is, with other utterances, as in
    benchmarks whose speakers are known."""
    split_seed: int | None = None
    """Seed of the choice of the validation side; None is `seed`. Runs of several seeds share it."""
    valid_every: int = 2
    """Epochs between two validations."""
    checkpoint_seconds: float = 60.0
    """Seconds between two checkpoints."""
    seed: int = 0
    """Seed of everything random."""
    threads: int = 0
    """Threads of torch; 0 is torch's own choice."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is cuda where torch finds it, else cpu."""
    precision: Literal["float32", "bf16"] = "float32"
    """float32, or bf16: training steps under autocast to bfloat16. Weights, losses and validation stay float32."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, which is then validated and saved; 0 is off."""
    consistency: float = 0.0
    """Weight of the symmetric divergence between the posteriors of two augmented views of a batch; 0 is off. A step
    takes twice the time."""
    teachers: tuple[str, ...] = ()
    """Folders of saved models, or of runs, with the same frames and classes, whose mean posteriors are further
    targets."""
    teacher_weight: float = 0.5
    """Share of the loss that is the divergence from the teachers; the labels have the rest."""
    time_masks: int = 2
    """Masks over frames in a training piece, with augment."""
    time_mask_frames: int = 20
    """Largest length of one, in frames."""
    time_mask_share: float = 0.1
    """Largest length of one, as a share of the piece."""
    max_bad: float | None = None
    """Share of each subset's utterances that may be unusable; they are left out and counted. None is 0.01 of the
    training subset and 0 of a test subset."""

    def __post_init__(self) -> None:
        take_numbers(self)
        # Completion in a shell leaves a slash at the end.
        object.__setattr__(self, "subset", self.subset and posixpath.normpath(self.subset))
        object.__setattr__(self, "test_subsets", tuple(map(posixpath.normpath, self.test_subsets)))
        object.__setattr__(self, "speakers", tuple(sorted(set(self.speakers))))
        object.__setattr__(self, "valid_speakers", tuple(sorted(set(self.valid_speakers))))
        check_types(self, get_type_hints(TrainConfig))
        check_numbers(self)
        check_copies(self)
        check_encoders(self, get_args(EncoderKind))
        check_task(self)
        check_tricks(self)
        for kind in (self.encoder, *self.baselines):
            self.of_encoder(kind)

    @property
    def learns_positions(self) -> bool:
        """Whether an encoder of this run has a table of learned positions, whose length limits recordings."""
        attention = {"truncated", "conformer", "full"}
        return self.position_encoding == "learned" and not attention.isdisjoint((self.encoder, *self.baselines))

    @property
    def has_copies(self) -> bool:
        """Whether the cache holds changed copies of training utterances."""
        return not self.on_the_fly and (self.speed_perturb != (1.0,) or self.noise is not None)

    @property
    def num_features(self) -> int:
        """Features of a frame."""
        return count_features(self.features, self.num_mels, self.num_ceps, self.deltas)

    def of_encoder(self, kind: EncoderKind) -> TrainConfig:
        """Return the settings of one encoder of the run: those of the run, and of `baseline_settings` its own.

        Those of encoders that are no baseline of this run have no effect.

        Raises:
            ConfigError: one is no ENCODER.SETTING=VALUE, or a setting of all encoders alike.
        """
        own = {}
        for text in self.baseline_settings:
            encoder, setting, value = parse_baseline_setting(text)
            check_choice("TrainConfig", f"baseline_settings {text}", encoder, get_args(EncoderKind))
            if encoder == kind != self.encoder:
                own[setting] = value
        return replace(self, baseline_settings=(), baselines=(), encoder=kind, **own) if own else self

    @property
    def framing(self) -> Framing:
        """What a frame is at the sample rate of the run."""
        return Framing(sample_rate=self.sample_rate)

    def encoder_config(self, kind: EncoderKind) -> EncoderConfig:
        """Return the configuration of the encoder `kind` in this run.

        The conformer's two feed-forward layers have a third of `d_ff` each: about as many parameters as a transformer.
        """
        shared: dict[str, Any] = {"input_dim": self.num_features, "dropout": self.dropout, "stack": self.stack}
        if kind == "linear":
            return EncoderConfig(**shared, d_model=self.d_model, block="linear")
        if kind == "mlp":
            window = Context.truncated(self.mlp_splice, self.mlp_splice)
            return EncoderConfig(**shared, d_model=self.mlp_width, num_layers=2, block="mlp", splice=window)
        shared |= {"splice": Context.truncated(self.splice, self.splice)}
        if kind == "bigru":
            num_layers = max(1, self.num_layers // 2)
            return EncoderConfig(**shared, d_model=self.gru_width, num_layers=num_layers, block="bigru")
        shared |= {"layer_dropout": self.layer_dropout, "gradient_checkpointing": self.gradient_checkpointing}
        if kind == "cnn":
            shared |= {"conv_kernel": self.cnn_kernel, "conv_lookahead": self.cnn_kernel // 2}
            num_layers = self.num_layers + self.num_layers // 2
            return EncoderConfig(**shared, d_model=self.d_model, num_layers=num_layers, block="cnn")
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

    def model_config(self, kind: EncoderKind, classes: tuple[str, ...], head: str = "frames") -> ModelConfig:
        """Return the configuration of the model with the encoder `kind` and the `head` of a task."""
        return ModelConfig(
            classes,
            self.encoder_config(kind),
            num_mels=self.num_mels,
            flavor=self.flavor,
            framing=self.framing,
            features=self.features,
            num_ceps=self.num_ceps,
            deltas=self.deltas,
            head=head,
            pooling=self.pooling if head == "utterance" else "mean",
            pooling_queries=self.pooling_queries if head == "utterance" else 1,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON types."""
        data: dict[str, Any] = to_dict(self)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainConfig:
        """Return the config that `to_dict` wrote.

        Raises:
            ConfigError: a setting is unknown or has the wrong type.
        """
        return from_dict(cls, data)

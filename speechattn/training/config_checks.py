"""Checks of the settings of a run: an impossible one is refused before the work. Standard library only.

Each `config` is a TrainConfig, whose file imports this one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from speechattn.errors import ConfigError
from speechattn.model_config import check_features
from speechattn.system.serialization import check_choice

LABELS: dict[str, tuple[str, ...]] = {
    "frames": ("phones", "words", "speech"),
    "utterance": ("classes", "speakers"),
    "ctc": ("phones", "characters"),
}
"""The labels that each task can have."""
MINIMUM: dict[str, float] = {
    "stack": 1,
    "sample_rate": 1000,
    "num_words": 1,
    "cnn_kernel": 1,
    "gru_width": 2,
    "mlp_width": 1,
    "mlp_splice": 0,
    "epochs": 1,
    "batch_frames": 1,
    "accumulate": 1,
    "crop_frames": 10,
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "augment_strength": 0.0,
    "valid_every": 1,
    "checkpoint_seconds": 0.0,
    "seed": 0,
    "threads": 0,
}
"""Smallest values that have a meaning. EncoderConfig checks the sizes of the encoders."""


def check_types(config: Any, hints: Mapping[str, Any]) -> None:
    """Raise ConfigError for a setting of another type than `hints` say."""
    for name, hint in hints.items():
        value = getattr(config, name)
        if hint is int and type(value) is not int:
            raise ConfigError(f"TrainConfig.{name} must be a whole number, got {value!r}.")
        if hint is bool and type(value) is not bool:
            raise ConfigError(f"TrainConfig.{name} must be True or False, got {value!r}.")
        if hint in (float, float | None) and not (_is_number(value) or (value is None and hint is not float)):
            raise ConfigError(f"TrainConfig.{name} must be a number, got {value!r}.")
        if float in get_args(hint) and type(value) is tuple and not all(map(_is_number, value)):
            raise ConfigError(f"TrainConfig.{name} must be numbers, got {list(value)}.")


def check_numbers(config: Any) -> None:
    """Raise ConfigError for a number or a choice without a meaning."""
    for name, minimum in MINIMUM.items():
        if not minimum <= getattr(config, name) < math.inf:  # nor NaN
            raise ConfigError(f"TrainConfig.{name} must be {minimum} or more, got {getattr(config, name)}.")
    try:
        config.framing  # noqa: B018 - raises where 10 ms are no whole number of samples
    except ValueError as error:
        raise ConfigError(f"TrainConfig.sample_rate cannot be used: {error}") from error
    if not 0 < config.learning_rate < math.inf:
        raise ConfigError(f"TrainConfig.learning_rate must be positive, got {config.learning_rate}.")
    if config.workers != "auto" and (type(config.workers) is not int or config.workers < 0):
        raise ConfigError(f"TrainConfig.workers must be auto or a whole number from 0, got {config.workers!r}.")
    check_choice("TrainConfig", "feature_dtype", config.feature_dtype, ("float32", "float16"))
    if config.max_bad is not None and not 0 <= config.max_bad <= 1:
        raise ConfigError(f"TrainConfig.max_bad must be a share from 0 to 1, got {config.max_bad}: 5 % is 0.05.")
    if config.max_hours is not None and not 0 < config.max_hours < math.inf:
        raise ConfigError(f"TrainConfig.max_hours must be positive, got {config.max_hours}: half an hour is 0.5.")
    if not 0 <= config.stretch < 1:
        raise ConfigError(f"TrainConfig.stretch must be in [0, 1), got {config.stretch}.")
    if not 0 < config.valid_fraction < 1:
        raise ConfigError(f"TrainConfig.valid_fraction must be between 0 and 1, got {config.valid_fraction}.")
    check_choice("TrainConfig", "split", config.split, ("speakers", "utterances"))
    if config.split_seed is not None and (type(config.split_seed) is not int or config.split_seed < 0):
        raise ConfigError(f"TrainConfig.split_seed must be a whole number from 0, got {config.split_seed!r}.")
    check_choice("TrainConfig", "precision", config.precision, ("float32", "bf16"))
    if config.refit_normalize and config.init is None:
        raise ConfigError("TrainConfig.refit_normalize needs init: without it, a run fits its normalisation.")
    if config.freeze_encoder and config.init is None:
        raise ConfigError("TrainConfig.freeze_encoder needs init, the folder of a trained model: --init DIR.")
    check_features("TrainConfig", config.features, config.num_mels, config.num_ceps, config.deltas)


def check_copies(config: Any) -> None:
    """Raise ConfigError for speeds or ratios of noise that cannot be made."""
    speeds = config.speed_perturb
    if not speeds or len(set(speeds)) != len(speeds):
        raise ConfigError(f"TrainConfig.speed_perturb must be different speeds, 1.0 for none, got {list(speeds)}.")
    for speed in speeds:
        if not 0.5 <= speed <= 2 or speed != round(speed, 2):
            raise ConfigError(
                f"TrainConfig.speed_perturb must be speeds from 0.5 to 2 with at most two decimals, got {speed}."
            )
    if config.on_the_fly and speeds == (1.0,) and config.noise is None:
        raise ConfigError(
            "TrainConfig.on_the_fly has nothing to draw: give --speed-perturb 0.9 1.0 1.1 or --noise DIR too."
        )
    ratio = config.noise_snr_db
    if len(ratio) != 2 or not -math.inf < ratio[0] <= ratio[1] < math.inf:
        raise ConfigError(
            f"TrainConfig.noise_snr_db must be the lowest and the highest ratio in dB, got {list(ratio)}."
        )


def check_encoders(config: Any, known: tuple[str, ...]) -> None:
    """Refuse an impossible encoder now, not after an hour of training."""
    kinds = (config.encoder, *config.baselines)
    longest = round(config.crop_frames / (1 - config.stretch))
    if config.learns_positions and config.max_frames < longest:
        raise ConfigError(
            f"TrainConfig.max_frames={config.max_frames} rows of learned positions are too few for pieces of up to "
            f"{longest} frames (crop_frames={config.crop_frames}): use max_frames={longest} or more."
        )
    if "bigru" in kinds and config.gru_width % 2:
        raise ConfigError(
            f"TrainConfig.gru_width must be even, half for each direction, got {config.gru_width}: use "
            f"{config.gru_width + 1}."
        )
    for kind in kinds:
        check_choice("TrainConfig", "encoder", kind, known)
        try:
            config.encoder_config(kind)
        except (TypeError, ValueError) as error:
            raise error if isinstance(error, ConfigError) else ConfigError(str(error)) from error


def check_task(config: Any) -> None:
    """Raise ConfigError for labels of another task, or settings that have no effect with this one."""
    check_choice("TrainConfig", "task", config.task, tuple(LABELS))
    if config.labels in sum(LABELS.values(), ()) and config.labels not in LABELS[config.task]:
        allowed = " or ".join(LABELS[config.task])
        raise ConfigError(f"TrainConfig.labels must be {allowed} with task {config.task}, got {config.labels!r}.")
    check_choice("TrainConfig", "labels", config.labels, LABELS[config.task])
    check_choice("TrainConfig", "pooling", config.pooling, ("mean", "attention"))
    if config.pooling != "mean" and config.task != "utterance":
        raise ConfigError(f"TrainConfig.pooling has no effect with task {config.task}: use --task utterance.")
    check_choice("TrainConfig", "unknown_characters", config.unknown_characters, ("stop", "drop"))
    if config.unknown_characters != "stop" and config.labels != "characters":
        raise ConfigError("TrainConfig.unknown_characters has no effect: only labels characters are spelt.")
    if config.layout != "auto" and config.labels != "classes":
        raise ConfigError("TrainConfig.layout has no effect: only labels classes are read from paths.")
    if config.stack > 1 and config.task == "frames":
        raise ConfigError(f"TrainConfig.stack must be 1 with task frames, a label for each frame, got {config.stack}.")
    if config.valid_speakers and config.split != "speakers":
        raise ConfigError("TrainConfig.valid_speakers needs split speakers: a split by utterance shares speakers.")
    if config.alignments is not None and config.data == "synthetic":
        raise ConfigError(
            f"TrainConfig.alignments={config.alignments!r} has no effect on synthetic speech: give the "
            "recordings with --data DIR."
        )
    if config.lexicon is not None and (
        config.alignments is not None or config.data == "synthetic" or config.labels == "speech"
    ):
        raise ConfigError(
            f"TrainConfig.lexicon={config.lexicon!r} has no effect: only alignments that the run makes need "
            "pronunciations (real speech, labels phones or words, no --alignments)."
        )


def _is_number(value: object) -> bool:
    return type(value) in (int, float)

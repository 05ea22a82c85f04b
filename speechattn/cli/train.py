"""The options of `train` and `evaluate`, read from the config dataclasses before anything heavy is imported.

Used by the command line and by the recipes, which bring presets of their own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import tyro

from speechattn.errors import ConfigError
from speechattn.training.config import TrainConfig


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a saved model on labelled speech.

    Args:
        model: folder of a saved model, for example runs/frame_classifier/model.
        data: folder in LibriSpeech layout.
        subset: the subset to score, for example test-other.
        alignments: folder or file with the reference, as for train; a model of speech and silence needs none.
        json: file to write the numbers to.
        max_bad: share of unusable recordings that is left out and counted; 0 stops at the first.
    """

    model: str
    data: str
    subset: str
    alignments: str | None = None
    json: str | None = None
    max_bad: float = 0.0


def train(argv: Sequence[str], presets: Mapping[str, TrainConfig] | None = None) -> int:
    """Run `train` with the options `argv`; returns the exit status, 130 or 143 after a signal."""
    config, restart = parse_train(argv, presets or {})
    from speechattn.system.stop_signal import Interrupted
    from speechattn.training.run import run

    try:
        run(config, restart)
    except Interrupted as interruption:
        print(f"\n{interruption}; everything is saved. The same command continues.")
        return interruption.exit_code
    return 0


def evaluate(argv: Sequence[str]) -> int:
    """Run `evaluate` with the options `argv`; returns the exit status."""
    options = tyro.cli(EvaluateConfig, args=list(argv), prog="speechattn evaluate")
    from speechattn.training.evaluate import evaluate_directory

    evaluate_directory(
        options.model, options.data, options.subset, options.alignments, options.json, max_bad=options.max_bad
    )
    return 0


def parse_train(argv: Sequence[str], presets: Mapping[str, TrainConfig]) -> tuple[TrainConfig, bool]:
    """(config, restart) from options: a preset or a file first, single settings over it.

    Raises:
        ConfigError: the file is missing, no JSON, or has an unknown setting; the combination is impossible.
        SystemExit: an unknown option, or --help.
    """
    first = argparse.ArgumentParser("speechattn train", argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    first.add_argument("--preset")
    first.add_argument("--restart", action="store_true")
    own, rest = first.parse_known_args(list(argv))
    if own.preset is not None and own.preset not in presets:
        if not presets:
            raise ConfigError("speechattn train has no presets of its own: run recipes/frame_classifier/train.py.")
        raise ConfigError(f"--preset must be one of {', '.join(sorted(presets))}, got {own.preset!r}.")
    base = presets[own.preset] if own.preset else TrainConfig()
    if own.config:
        base = TrainConfig.from_dict({**base.to_dict(), **_read(own.config)})
    description = (
        "Train a classifier of frames and write its report; the same command resumes.\n\n"
        "--config FILE reads settings from JSON, "
        + (f"--preset {{{','.join(sorted(presets))}}} picks a set of them, " if presets else "")
        + "--restart moves an earlier run in --output aside."
    )
    options = tyro.cli(_unchecked(base), args=rest, prog="speechattn train", description=description)
    return TrainConfig(**vars(options)), bool(own.restart)


def _unchecked(base: TrainConfig) -> type[Any]:
    """TrainConfig's fields with the defaults of `base`, but not its checks, whose errors are ours to print."""
    hints = get_type_hints(TrainConfig)
    entries = [(entry.name, hints[entry.name], field(default=getattr(base, entry.name))) for entry in fields(base)]
    options = make_dataclass("TrainConfig", entries)
    options.__doc__ = TrainConfig.__doc__
    return options


def _read(path: str) -> dict[str, object]:
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"--config {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"--config {path} is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"--config {path} must hold one object with named settings, got {type(data).__name__}.")
    return data

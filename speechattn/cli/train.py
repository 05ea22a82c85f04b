"""`speechattn train`: options from TrainConfig, read and checked before torch is imported; also run by the recipes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from speechattn.cli.config_options import add_fields, given_fields
from speechattn.cli.download import download_missing
from speechattn.cli.options import Parser
from speechattn.errors import ConfigError
from speechattn.system.serialization import parse_json
from speechattn.training.config import TrainConfig


def main(argv: Sequence[str], presets: Mapping[str, TrainConfig] | None = None) -> int:
    """Train with the options `argv`; return the exit status, 130 or 143 after a signal."""
    config, restart = parse_train(argv, presets or {})
    if _sources(argv, presets or {}).download:
        status = download_missing(config.data, (config.subset, *config.test_subsets))
        if status:
            return status
    from speechattn.system.stop_signal import Interrupted
    from speechattn.training.run import run

    try:
        run(config, restart)
    except Interrupted as interruption:
        if os.environ.get("RANK", "0") == "0":  # one of several processes, or the only one
            print(f"\n{interruption}; everything is saved. The same command continues.")
        return interruption.exit_code
    return 0


DESCRIPTIONS = {
    "train": "Train a model and write its report; the same command resumes a run that was stopped.",
    "cross-validate": "Train and score with each speaker held out in turn; the same command resumes what was stopped.",
}


def parse_train(
    argv: Sequence[str], presets: Mapping[str, TrainConfig], command: str = "train"
) -> tuple[TrainConfig, bool]:
    """Return (config, restart) from options: a preset first, a file over it, single settings over both.

    `command` is the one that takes them, for --help.

    Raises:
        ConfigError: the file is missing, not JSON, or has an unknown setting; the combination is impossible.
        UserError: an option is unknown or has an impossible value.
        SystemExit: --help.
    """
    sources = _sources(argv, presets)
    base = _base(sources.preset, sources.config, presets)
    parser = Parser(
        f"speechattn {command}",
        usage=f"speechattn {command} [--config FILE] [--preset NAME] [--restart] [--download] [SETTING ...]",
        description=DESCRIPTIONS[command],
    )
    _add_sources(parser, presets)
    add_fields(parser, base)
    options = parser.parse_args(argv)
    return replace(base, **given_fields(options, TrainConfig)), bool(options.restart)


def _sources(argv: Sequence[str], presets: Mapping[str, TrainConfig]) -> argparse.Namespace:
    """Return the options that are no single settings."""
    parser = Parser("speechattn train", add_help=False)
    _add_sources(parser, presets)
    sources: argparse.Namespace = parser.parse_known_args(argv)[0]
    return sources


def _add_sources(parser: Parser, presets: Mapping[str, TrainConfig]) -> None:
    parser.add_argument("--config", metavar="FILE", help="settings from a JSON file, as config.json of a run")
    names = ", ".join(sorted(presets))
    parser.add_argument("--preset", metavar="NAME", help=f"a set of settings: {names}" if presets else "for recipes")
    parser.add_argument("--restart", action="store_true", help="move an earlier run in the folder aside and begin anew")
    text = "fetch the subsets of LibriSpeech that are not in the folder --data, as speechattn download does"
    parser.add_argument("--download", action="store_true", help=text)


def _base(preset: str | None, file: str | None, presets: Mapping[str, TrainConfig]) -> TrainConfig:
    """Return the settings that single options change."""
    if preset is not None and preset not in presets:
        if not presets:
            raise ConfigError("speechattn train has no presets of its own: run recipes/frame_classifier/train.py.")
        raise ConfigError(f"--preset must be one of {', '.join(sorted(presets))}, got {preset!r}.")
    base = presets[preset] if preset else TrainConfig()
    return TrainConfig.from_dict({**base.to_dict(), **_read(file)}) if file else base


def _read(path: str) -> dict[str, object]:
    try:
        data = parse_json(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"--config {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"--config {path} is not JSON: {error}.") from error
    if not isinstance(data, dict):
        raise ConfigError(f"--config {path} must hold one object with named settings, got {type(data).__name__}.")
    return data

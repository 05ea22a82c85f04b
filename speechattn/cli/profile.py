"""`speechattn profile`: memory and time of encoders over the length of audio; `profiling/` does the work."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechattn.cli.options import positive
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.errors import ConfigError, UserError
from speechattn.framing import Framing
from speechattn.profiling.settings import DEVICES, ENCODERS, MAX_SECONDS, MODEL, MODES, Settings
from speechattn.system.units import parse_bytes

SHORTEST_S = 1 / Framing().frames_per_second
SIZES = {"d_model": 256, "num_layers": 6, "num_heads": 4, "num_mels": 80}


def add(commands: Any) -> None:
    """Its options; `commands` is what argparse calls subparsers."""
    command = commands.add_parser(
        "profile",
        help="memory and time of encoders over the length of audio",
        description="Memory and time of encoders over the length of audio. Every point has a process of its own with a "
        "ceiling: running out of memory or time is a result. The same command goes on where it was interrupted.",
        epilog="speechattn profile --seconds 10 60 600 --out runs/profile writes report.html, profile.json and "
        "profile.csv there. --redraw and --compare measure nothing.",
    )
    known = ", ".join(ENCODERS)
    add_ = command.add_argument
    add_("--seconds", nargs="+", type=_length, default=[10.0, 60.0, 600.0], metavar="S", help="of audio (10 60 600)")
    add_("--encoders", nargs="+", metavar="NAME", help=f"{known}; or {MODEL}, as it is in --model (default: all)")
    add_("--mode", choices=MODES, default="inference", help="training is forward and backward")
    add_("--out", type=Path, metavar="DIR", help="where the report goes, and what is known already is read")
    add_("--restart", action="store_true", help="measure again what is in --out")
    size = command.add_argument_group("size")
    size.add_argument("--model", type=Path, metavar="DIR", help="the encoder of a saved model")
    for name, default in SIZES.items():
        size.add_argument(f"--{name.replace('_', '-')}", type=positive, metavar="N", help=f"default {default}")
    size.add_argument("--left", type=_frames, default=64, metavar="N", help="frames before (default 64)")
    size.add_argument("--right", type=_frames, default=64, metavar="N", help="frames after (default 64)")
    size.add_argument("--chunk", type=positive, default=64, metavar="N", help="frames of a chunk (default 64)")
    size.add_argument("--push", type=positive, default=100, metavar="N", help="frames a stream gets at a time (100)")
    size.add_argument("--batch-size", type=positive, default=1, metavar="N", help="rows (default 1)")
    size.add_argument("--checkpointing", action="store_true", help="training that computes every block twice")
    limits = command.add_argument_group("limits")
    limits.add_argument(
        "--memory", type=_size, metavar="SIZE", help="of a process, as 8GB; default: most of what is free now"
    )
    limits.add_argument("--timeout", type=_amount, default=600.0, metavar="S", help="of a pass (default 600)")
    limits.add_argument("--threads", type=positive, default=1, metavar="N", help="of torch (default 1)")
    limits.add_argument("--rounds", type=positive, default=1, metavar="N", help="passes to take the least time of")
    limits.add_argument("--device", choices=DEVICES, default="cpu")
    other = command.add_argument_group("without a profile")
    other.add_argument("--redraw", type=Path, metavar="JSON", help="page and picture of a profile.json again")
    other.add_argument("--compare", nargs=2, type=Path, metavar="JSON", help="two profile.json side by side")
    other.add_argument("--trace", action="store_true", help="where it goes: one encoder, one length, by layer")


def run(options: argparse.Namespace) -> int:
    """Measure, or show again what was measured."""
    if sum(map(bool, (options.redraw, options.compare, options.trace))) > 1:
        raise UserError("--redraw, --compare and --trace are three different things: give one.")
    if options.redraw:
        from speechattn.cli.profile_actions import redraw

        return redraw(options.redraw, options.out)
    if options.compare:
        from speechattn.profiling.compare import compare

        first, second = options.compare
        return compare(first, second, options.out)
    encoders = _encoders(options)
    settings = _settings(options)
    if options.trace:
        from speechattn.profiling.trace.report import run_trace

        return run_trace(settings, encoders, options.seconds, options.out)
    if options.out is None:
        raise UserError("speechattn profile needs --out DIR for its report, for example --out runs/profile")
    from speechattn.cli.profile_actions import profile

    return profile(settings, encoders, options.seconds, options.out, options.restart)


def _encoders(options: argparse.Namespace) -> list[str]:
    """The encoders asked for, each known."""
    if options.encoders is None:
        every = (MODEL, "streaming") if options.model else ENCODERS
        return [name for name in every if options.mode == "inference" or name != "streaming"]
    for name in options.encoders:
        if name == MODEL and options.model is None:
            raise UserError(f"--encoders {MODEL} is the encoder of a saved model: give its folder, --model DIR")
        if name not in (*ENCODERS, MODEL):
            raise UserError(f"--encoders must be among {', '.join(ENCODERS)} (and {MODEL} with --model), got {name!r}.")
    return list(options.encoders)


def _settings(options: argparse.Namespace) -> Settings:
    """What the options say. A saved model brings its own size, and only then is torch imported."""
    if options.checkpointing and options.mode != "training":
        raise UserError("--checkpointing has no effect without gradients: give --mode training, too.")
    given = {name: getattr(options, name) for name in SIZES if getattr(options, name) is not None}
    frames_per_second = Framing().frames_per_second
    if options.model is not None:
        if given:
            raise UserError(f"--model brings its own size: leave out --{next(iter(given)).replace('_', '-')}.")
        from speechattn.models.speech_model import load

        saved = load(options.model).config
        config, frames_per_second = saved.encoder, saved.framing.frames_per_second
    else:
        size = SIZES | given
        window = Context.truncated(options.left, options.right)
        config = EncoderConfig(size.pop("num_mels"), **size, context=window, position_encoding="none", dropout=0.0)
    return Settings(
        replace(config, gradient_checkpointing=options.checkpointing),
        **{name: getattr(options, name) for name in ("left", "right", "chunk", "push", "mode", "batch_size")},
        **{name: getattr(options, name) for name in ("device", "threads", "rounds")},
        memory_bytes=options.memory,
        timeout_s=options.timeout,
        model=None if options.model is None else str(options.model),
        frames_per_second=frames_per_second,
    )


def _number(text: str) -> float:
    """A finite number above 0, or NaN."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if 0 < number < math.inf else math.nan


def _length(text: str) -> float:
    number = _number(text)
    if not SHORTEST_S <= number <= MAX_SECONDS:
        limits = f"{SHORTEST_S:g} (a frame) to {MAX_SECONDS:.0f} (a year)"
        raise argparse.ArgumentTypeError(f"must be seconds of audio, {limits}, got {text!r}")
    return number


def _amount(text: str) -> float:
    if math.isnan(number := _number(text)):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return number


def _size(text: str) -> int:
    """Bytes of "8GB", or of a number of GB."""
    try:
        return parse_bytes(text if math.isnan(_number(text)) else f"{text}GB")
    except ConfigError:
        raise argparse.ArgumentTypeError(f"must be a size as 8GB, or a number of GB, got {text!r}") from None


def _frames(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of frames, 0 or more, got {text!r}")
    return int(text)

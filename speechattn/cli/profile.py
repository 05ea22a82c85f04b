"""`speechattn profile`: memory and time of encoders over the length of audio; `profiling/` does the work."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from speechattn.cli.options import Parser, duration, frames, option_name, positive, size
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.errors import UserError
from speechattn.framing import Framing
from speechattn.profiling.settings import DEVICES, ENCODERS, MAX_SECONDS, MODEL, MODES, Settings

MIN_SECONDS = 1 / Framing().frames_per_second
SIZES = {"d_model": 256, "num_layers": 6, "num_heads": 4, "num_mels": 80}


def main(argv: Sequence[str]) -> int:
    """Measure, trace, or show earlier measurements, as the options `argv` say; return the exit status."""
    options = _parser().parse_args(argv)
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

        return run_trace(settings, encoders, options.duration, options.out)
    if options.out is None:
        raise UserError("speechattn profile needs --out DIR for its report, for example --out runs/profile.")
    from speechattn.cli.profile_actions import profile

    return profile(settings, encoders, options.duration, options.out, options.restart)


def _parser() -> Parser:
    parser = Parser(
        "speechattn profile",
        description="Memory and time of encoders over the length of audio. Each measurement has its own process with a "
        "memory limit: running out of memory or time is a result. The same command continues after an interruption.",
        epilog="speechattn profile --duration 10s 60s 10min --out runs/profile writes report.html, profile.json and "
        "profile.csv. --redraw and --compare measure nothing.",
    )
    add = parser.add_argument
    names = ", ".join(ENCODERS)
    length = duration(MIN_SECONDS, MAX_SECONDS, f"from {MIN_SECONDS:g}s (a frame) to {MAX_SECONDS / 86400:.0f}d")
    lengths = [10.0, 60.0, 600.0]
    add("--duration", nargs="+", type=length, default=lengths, metavar="TIME", help="of audio (default 10s 60s 10min)")
    add("--encoders", nargs="+", metavar="NAME", help=f"{names}; or {MODEL}, as it is in --model (default: all)")
    add("--mode", choices=MODES, default="inference", help="training is forward and backward")
    add("--out", type=Path, metavar="DIR", help="folder of the report; what it holds is not measured again")
    add("--restart", action="store_true", help="measure again what is in --out")
    add = parser.add_argument_group("size").add_argument
    add("--model", type=Path, metavar="DIR", help="the encoder of a saved model")
    for name, default in SIZES.items():
        add(option_name(name), type=positive, metavar="N", help=f"default {default}")
    add("--left", type=frames, default=64, metavar="N", help="frames before (default 64)")
    add("--right", type=frames, default=64, metavar="N", help="frames after (default 64)")
    add("--chunk", type=positive, default=64, metavar="N", help="frames of a chunk (default 64)")
    add("--push", type=positive, default=100, metavar="N", help="frames per step of a stream (default 100)")
    add("--batch-size", type=positive, default=1, metavar="N", help="rows (default 1)")
    add("--checkpointing", action="store_true", help="training with gradient checkpointing")
    add = parser.add_argument_group("limits").add_argument
    add("--memory", type=size, metavar="SIZE", help="of a process, as 8GB (default: most of what is free now)")
    add("--timeout", type=duration(), default=600.0, metavar="TIME", help="of one pass, as 90s (default 10min)")
    add("--threads", type=positive, default=1, metavar="N", help="of torch (default 1)")
    add("--rounds", type=positive, default=1, metavar="N", help="passes, of which the fastest counts (default 1)")
    add("--device", choices=DEVICES, default="cpu", help="default cpu")
    add = parser.add_argument_group("other actions").add_argument
    add("--redraw", type=Path, metavar="JSON", help="page and figure of a profile.json again")
    add("--compare", nargs=2, type=Path, metavar="JSON", help="two profile.json side by side")
    add("--trace", action="store_true", help="one encoder and one duration in detail: layers, operators, tensors")
    return parser


def _encoders(options: argparse.Namespace) -> list[str]:
    """Return the encoders to measure."""
    if options.encoders is None:
        every = (MODEL, "streaming") if options.model else ENCODERS
        return [name for name in every if options.mode == "inference" or name != "streaming"]
    for name in options.encoders:
        if name == MODEL and options.model is None:
            raise UserError(f"--encoders {MODEL} is the encoder of a saved model: give its folder, --model DIR.")
        if name not in (*ENCODERS, MODEL):
            raise UserError(f"--encoders must be among {', '.join(ENCODERS)} (and {MODEL} with --model), got {name!r}.")
    return list(options.encoders)


def _settings(options: argparse.Namespace) -> Settings:
    """Return the settings in the options. torch is imported only to load a saved model, which has its own size."""
    if options.checkpointing and options.mode != "training":
        raise UserError("--checkpointing has no effect without gradients: add --mode training.")
    given = {name: getattr(options, name) for name in SIZES if getattr(options, name) is not None}
    frames_per_second = Framing().frames_per_second
    if options.model is not None:
        if given:
            raise UserError(f"--model brings its own size: leave out {option_name(next(iter(given)))}.")
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

"""`speechattn picture`: what a frame sees and waits for, through the layers, as a picture and as a table.

matplotlib is imported when the options are known to be right; torch only to read a saved model.
"""

from __future__ import annotations

import argparse
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechattn import context as law
from speechattn.cli.options import positive
from speechattn.context import Context
from speechattn.errors import UserError
from speechattn.framing import HOP_MS

SUFFIXES = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""Kinds of files, each without what would change with the day or an upgrade."""
DEFAULT_LAYERS, MAX_LAYERS = 6, 100
MAX_FRAMES = 1_000_000
"""Nearly three hours of 10 ms."""
MAX_STEPS = 10_000
"""Chunks that may pass until those of all layers begin together: each of them is looked at."""


@dataclass(frozen=True)
class Drawn:
    """What there is to draw: arguments of `pictures.receptive_field`."""

    contexts: tuple[Context, ...]
    hop_ms: float
    names: tuple[str, ...] | None = None
    title: str = ""
    frontend_ms: float = 0.0


def add(commands: Any) -> None:
    """Its options; `commands` is what argparse calls subparsers."""
    command = commands.add_parser(
        "picture",
        help="what a frame sees and waits for through the layers, for any context or saved model",
        description="Draw the band of a context, the receptive field through the layers, and the latency of each.",
        epilog="Frames are counted beyond the frame's own chunk; `all` is no limit.",
    )
    command.add_argument("--left", type=_side, metavar="N", help="frames that a frame sees before it (default 0)")
    command.add_argument("--right", type=_side, metavar="N", help="and after it (default 0)")
    command.add_argument("--chunk", type=positive, metavar="N", help="frames that share one view (default 1)")
    command.add_argument("--layers", type=positive, metavar="N", help="layers of one context (default 6)")
    command.add_argument(
        "--context",
        type=_context,
        action="append",
        metavar="LEFT,RIGHT[,CHUNK]",
        help="once a layer, the one next to the input first; or once for all --layers",
    )
    command.add_argument(
        "--model", nargs="?", const="", metavar="DIR", help="a saved model; without DIR the small one that is shipped"
    )
    command.add_argument("--hop-ms", type=_milliseconds, metavar="MS", help="length of a frame (default 10)")
    command.add_argument("--title", default="", help="in place of the context in words")
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help=".png, .svg or .pdf")


def run(options: argparse.Namespace) -> int:
    """Write the picture and print the table; see `add`."""
    out: Path = options.out
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out} must end in one of {', '.join(SUFFIXES)}.")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise UserError(f"--out {out} cannot be written: its folder is missing or not yours.")
    drawn = _drawn(options)
    from speechattn.plots.context_figure import receptive_field
    from speechattn.plots.style import DPI
    from speechattn.system.atomic_files import write_bytes

    figure = receptive_field(drawn.contexts, drawn.hop_ms, drawn.names, drawn.title, drawn.frontend_ms)
    buffer = io.BytesIO()
    suffix = out.suffix.lower()
    figure.savefig(buffer, format=suffix[1:], dpi=DPI, metadata=SUFFIXES[suffix])
    try:
        write_bytes(out, buffer.getvalue())
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror}.") from error
    print(law.describe(drawn.contexts, drawn.hop_ms, drawn.names))
    print(out)
    return 0


def _drawn(options: argparse.Namespace) -> Drawn:
    """What the options ask for.

    Raises:
        UserError: none or more than one of the three ways to say it, or more than can be drawn.
    """
    sides = [f"--{name}" for name in ("left", "right", "chunk") if getattr(options, name) is not None]
    given = sides[:1] + ["--context"] * bool(options.context) + ["--model"] * (options.model is not None)
    if not given:
        raise UserError("no context to draw: give --left 64 --right 8, --context 64,8,16 once a layer, or --model DIR.")
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other: say what to draw in one of these ways.")
    if options.model is not None:
        for name in ("layers", "hop_ms"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name.replace('_', '-')} is not for --model, which has its own: leave it out.")
        return _of_model(options.model, options.title)
    left, right = (_frames(side or "0") for side in (options.left, options.right))
    contexts = options.context or [Context(left, right, options.chunk or 1)]
    if options.layers is not None and len(contexts) > 1:
        raise UserError(f"--layers is not for {len(contexts)} times --context, which are a layer each: leave it out.")
    if len(contexts) == 1:
        contexts *= options.layers or DEFAULT_LAYERS
    if len(contexts) > MAX_LAYERS:
        raise UserError(f"--layers {len(contexts)} are too many to draw: at most {MAX_LAYERS}.")
    if any(frames is not None and frames > MAX_FRAMES for c in contexts for frames in (c.left, c.right, c.chunk)):
        raise UserError(f"a context of more than {MAX_FRAMES:,} frames cannot be drawn: all is no limit.")
    chunks = {context.chunk for context in contexts}
    if math.lcm(*chunks) // min(chunks) > MAX_STEPS:
        told = " and ".join(map(str, sorted(chunks)))
        raise UserError(f"chunks of {told} frames begin together too seldom to be drawn: give them a common divisor.")
    return Drawn(tuple(contexts), options.hop_ms or HOP_MS, title=options.title)


def _of_model(directory: str, title: str) -> Drawn:
    from speechattn.models.pretrained import load_pretrained
    from speechattn.models.speech_model import load

    config = (load(directory) if directory else load_pretrained()).config
    encoder, framing = config.encoder, config.framing
    name = Path(directory).resolve().name if directory else "The small model that is shipped"
    start, stop = framing.span_samples(0)
    waited = stop - (start + framing.window // 2)  # as in Stream.latency_ms
    return Drawn(
        config.contexts,
        framing.hop_ms,
        config.context_names,
        title or f"{name}: {encoder.block}, {encoder.num_layers} layers",
        1000 * waited / framing.sample_rate,
    )


def _side(text: str) -> str:
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of frames, 0 or more, or all, got {text!r}")
    return text


def _frames(side: str) -> int | None:
    return None if side == "all" else int(side)


def _context(text: str) -> Context:
    parts = text.split(",")
    if len(parts) not in (2, 3):
        raise argparse.ArgumentTypeError(f"must be left,right or left,right,chunk, as 64,8,16, got {text!r}")
    left, right = (_frames(_side(part)) for part in parts[:2])
    return Context(left, right, positive(parts[2]) if len(parts) == 3 else 1)


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of milliseconds above 0, got {text!r}")
    return value

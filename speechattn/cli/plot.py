"""`speechattn plot`: receptive field and latency through the layers, as a figure and as a table.

matplotlib is imported after the options were checked; torch only to read a saved model.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechattn.cli.options import Parser, check_output_file, frames_or_all, option_name, positive
from speechattn.context import Context
from speechattn.errors import UserError
from speechattn.framing import HOP_MS
from speechattn.receptive_field import describe

SUFFIXES = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""File formats, with the metadata that is left out because it changes with the day or an upgrade."""
DEFAULT_LAYERS, MAX_LAYERS = 6, 100
MAX_FRAMES = 1_000_000
"""Nearly three hours of 10 ms."""
MAX_CHUNKS = 10_000
"""Chunks until those of all layers begin together again: the latency is the largest over all of them."""


@dataclass(frozen=True)
class Layers:
    """What to plot: arguments of `plots.context_figure.receptive_field`."""

    contexts: tuple[Context, ...]
    hop_ms: float
    names: tuple[str, ...] | None = None
    title: str = ""
    frontend_ms: float = 0.0


def main(argv: Sequence[str]) -> int:
    """Write the figure and print the table that the options `argv` ask for; return the exit status."""
    options = _parser().parse_args(argv)
    out: Path = options.out
    check_output_file("--out", out, SUFFIXES)
    layers = _layers(options)
    from speechattn.plots.context_figure import receptive_field
    from speechattn.plots.style import DPI
    from speechattn.system.atomic_files import write_bytes

    figure = receptive_field(layers.contexts, layers.hop_ms, layers.names, layers.title, layers.frontend_ms)
    buffer = io.BytesIO()
    suffix = out.suffix.lower()
    figure.savefig(buffer, format=suffix[1:], dpi=DPI, metadata=SUFFIXES[suffix])
    try:
        write_bytes(out, buffer.getvalue())
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error.strerror}.") from error
    print(describe(layers.contexts, layers.hop_ms, layers.names))
    print(out)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "speechattn plot",
        description="Plot the mask of a context, the receptive field through the layers, and the latency of each.",
        epilog="Frames are counted beyond the frame's own chunk; `all` is no limit.",
    )
    add = parser.add_argument
    add("--left", type=frames_or_all, metavar="N", help="frames that a frame sees before it (default 0)")
    add("--right", type=frames_or_all, metavar="N", help="and after it (default 0)")
    add("--chunk", type=positive, metavar="N", help="frames that share one view (default 1)")
    add("--layers", type=positive, metavar="N", help="layers of one context (default 6)")
    add(
        "--context",
        type=context_option,
        action="append",
        metavar="LEFT,RIGHT[,CHUNK]",
        help="once a layer, the one next to the input first; or once for all --layers",
    )
    add("--model", nargs="?", const="", metavar="DIR", help="a saved model; without DIR the shipped one")
    add("--hop-ms", type=_milliseconds, metavar="MS", help="length of a frame (default 10)")
    add("--title", default="", help="in place of the description of the context")
    add("--out", type=Path, required=True, metavar="FILE", help=".png, .svg or .pdf")
    return parser


def _layers(options: argparse.Namespace) -> Layers:
    """Return what the options ask for.

    Raises:
        UserError: none or more than one of --left, --context and --model is given, or it is too large to plot.
    """
    sides = [f"--{name}" for name in ("left", "right", "chunk") if getattr(options, name) is not None]
    given = sides[:1] + ["--context"] * bool(options.context) + ["--model"] * (options.model is not None)
    if not given:
        raise UserError("no context to plot: give --left 64 --right 8, --context 64,8,16 once a layer, or --model DIR.")
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other: give one of them.")
    if options.model is not None:
        for name in ("layers", "hop_ms"):
            if getattr(options, name) is not None:
                raise UserError(f"{option_name(name)} is not for --model, which has its own: leave it out.")
        return _of_model(options.model, options.title)
    left, right = (_limit(side or 0) for side in (options.left, options.right))
    contexts = options.context or [Context(left, right, options.chunk or 1)]
    if options.layers is not None and len(contexts) > 1:
        raise UserError(f"--layers is not for {len(contexts)} times --context, which are a layer each: leave it out.")
    if len(contexts) == 1:
        contexts *= options.layers or DEFAULT_LAYERS
    if len(contexts) > MAX_LAYERS:
        raise UserError(f"--layers {len(contexts)} are too many to plot: at most {MAX_LAYERS}.")
    if any(frames is not None and frames > MAX_FRAMES for c in contexts for frames in (c.left, c.right, c.chunk)):
        raise UserError(f"a context of more than {MAX_FRAMES:,} frames cannot be plotted: all is no limit.")
    chunks = {context.chunk for context in contexts}
    if math.lcm(*chunks) // min(chunks) > MAX_CHUNKS:
        sizes = " and ".join(map(str, sorted(chunks)))
        raise UserError(f"chunks of {sizes} frames begin together too seldom to be plotted: give a common divisor.")
    return Layers(tuple(contexts), options.hop_ms or HOP_MS, title=options.title)


def _of_model(directory: str, title: str) -> Layers:
    from speechattn.models.pretrained import load_pretrained
    from speechattn.models.speech_model import load

    config = (load(directory) if directory else load_pretrained()).config
    encoder, framing = config.encoder, config.framing
    name = Path(directory).resolve().name if directory else "The shipped model"
    return Layers(
        config.contexts,
        framing.hop_ms,
        config.context_names,
        title or f"{name}: {encoder.block}, {encoder.num_layers} layers",
        framing.latency_ms(),
    )


def _limit(side: int | str) -> int | None:
    return None if side == "all" else int(side)


def context_option(text: str) -> Context:
    """Read a context: left,right or left,right,chunk in frames, of which `all` is no limit."""
    parts = text.split(",")
    if len(parts) not in (2, 3):
        raise argparse.ArgumentTypeError(f"must be left,right or left,right,chunk, as 64,8,16, got {text!r}")
    left, right = (_limit(frames_or_all(part)) for part in parts[:2])
    return Context(left, right, positive(parts[2]) if len(parts) == 3 else 1)


def _milliseconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of milliseconds above 0, got {text!r}")
    return value

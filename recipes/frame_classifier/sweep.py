"""Measure what a window is worth: frame accuracy and cost over the context of an encoder, and its baselines.

    python recipes/frame_classifier/sweep.py --preset quick
    python recipes/frame_classifier/sweep.py --preset window --data DIR --subset NAME --alignments DIR --seeds 0 1 2
    python recipes/frame_classifier/sweep.py --redraw docs/data/window_sweep.json --plot window.png

Every point of the sweep is an ordinary run in a folder of its own; the same command continues a sweep that was
stopped. Other options are settings of the runs, as of train.py. docs/window.md has the method and a recorded sweep.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from speechattn.cli.config_options import add_fields, given_fields
from speechattn.cli.options import Parser, duration
from speechattn.errors import UserError
from speechattn.sweep.points import Family, Point
from speechattn.training.config import TrainConfig

MLP = {"encoder": "mlp", "dropout": 0.2, "epochs": 8}
BIGRU = {"encoder": "bigru", "num_layers": 4, "gru_width": 192, "precision": "float32"}


def attention(left: int, right: int, family: Family, **settings: object) -> Point:
    """Return the point of truncated attention with this context in each of its layers."""
    chunk = f", chunk {settings['chunk']}" if "chunk" in settings else ""
    layers = settings.get("num_layers")
    depth = "" if layers is None else f", {layers} layer{'' if layers == 1 else 's'}"
    label = f"attention, left {left}, right {right}{chunk}{depth}"
    name = label.replace(", ", "-").replace(" ", "-")
    return Point(name, label, family, {"left": left, "right": right, **settings})


# All points have about 370,000 parameters, where their kind allows. Depths see what 3 layers of 15 and 15 see.
WINDOW = (
    attention(15, 15, "two-sided"),
    Point("linear", "linear, 1 frame", "baseline", {"encoder": "linear"}),
    attention(0, 0, "two-sided"),
    Point("mlp-11", "MLP, 11 frames", "baseline", {**MLP, "mlp_splice": 5, "mlp_width": 400}),
    attention(40, 40, "two-sided"),
    attention(5, 5, "two-sided"),
    attention(30, 0, "past only"),
    attention(2, 2, "two-sided"),
    Point("cnn", "CNN", "baseline", {"encoder": "cnn", "cnn_kernel": 9}),
    Point("mlp-31", "MLP, 31 frames", "baseline", {**MLP, "mlp_splice": 15, "mlp_width": 232}),
    Point("mlp-1", "MLP, 1 frame", "baseline", {**MLP, "mlp_splice": 0, "mlp_width": 560}),
    attention(26, 4, "little future"),
    attention(0, 30, "future only"),
    attention(32, 0, "chunks", chunk=16),
    attention(45, 45, "depth", num_layers=1, d_model=168, d_ff=672),
    Point("full", "full attention", "full", {"encoder": "full"}),
    attention(9, 9, "depth", num_layers=5, d_model=72, d_ff=288),
    attention(48, 0, "chunks", chunk=48),
    Point("bigru", "BiGRU", "baseline", BIGRU),
)
QUICK = (attention(4, 4, "two-sided"), Point("linear", "linear, 1 frame", "baseline", {"encoder": "linear"}))

PRESETS = {
    # Synthetic speech, two kinds, a minute.
    "quick": (
        QUICK,
        TrainConfig(out="runs/quick_sweep", d_model=32, num_heads=2, num_layers=2, d_ff=64, epochs=1, valid_every=100),
    ),
    # An hour of real speech: about half an hour of one core for each seed.
    "window": (
        WINDOW,
        TrainConfig(
            data="LibriSpeech",
            subset="train-clean-100",
            out="runs/window_sweep",
            d_model=96,
            num_heads=6,
            num_layers=3,
            d_ff=384,
            dropout=0.2,
            augment=False,
            epochs=4,
            valid_every=100,
            precision="bf16",
        ),
    ),
}


def main(argv: Sequence[str]) -> int:
    """Run or redraw a sweep, as the options `argv` say; return the exit status, 130 or 143 after a signal."""
    first = _parser(TrainConfig()).parse_known_args(argv)[0]
    if first.redraw is not None:
        return _show(first.redraw, first.plot)
    if first.preset not in PRESETS:
        raise UserError(f"--preset must be one of {', '.join(sorted(PRESETS))}, got {first.preset!r}.")
    points, base = PRESETS[first.preset]
    options = _parser(base).parse_args(argv)
    base = replace(base, **given_fields(options, TrainConfig))
    unknown = sorted(set(options.points or ()) - {point.name for point in points})
    if unknown:
        raise UserError(f"--points: {unknown[0]!r} is none of {', '.join(point.name for point in points)}.")
    chosen = [point for point in points if not options.points or point.name in options.points]

    from speechattn.sweep.runner import RECORDS, run_sweep
    from speechattn.system.stop_signal import Interrupted

    named = [f"DIR/{Path(word).name}" if Path(word).is_absolute() else word for word in argv]  # folders of this machine
    command = f"python recipes/frame_classifier/sweep.py {shlex.join(named)}"
    try:
        run_sweep(chosen, base, options.seeds, Path(base.out), command, options.cost_duration)
    except Interrupted as interruption:
        print(f"\n{interruption}; everything is saved. The same command continues.")
        return interruption.exit_code
    return _show(Path(base.out) / RECORDS, options.plot or Path(base.out) / "window_sweep.png")


def _parser(base: TrainConfig) -> Parser:
    parser = Parser(
        "sweep.py",
        usage="sweep.py --preset NAME [--seeds N ...] [SETTING ...] | --redraw FILE [--plot FILE]",
        description="Frame accuracy and cost over the context of an encoder; the same command continues.",
    )
    add = parser.add_argument
    add("--preset", default="window", metavar="NAME", help="window (default), or quick: two kinds, synthetic speech")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="of weights and batches (default 0)")
    add("--points", nargs="+", metavar="NAME", help="only these points of the preset")
    length = duration(1.0, 3600.0, "from 1s to 1h")
    add("--cost-duration", type=length, metavar="TIME", help="measure time and memory over so much audio")
    add("--plot", type=Path, metavar="FILE", help="where the figure goes; by default into --out")
    add("--redraw", type=Path, metavar="FILE", help="draw figure and table from these records, and run nothing")
    add_fields(parser, base)
    return parser


def _show(records: Path, plot: Path | None) -> int:
    """Print the table of the records, and write their figure."""
    from speechattn.sweep.records import read_records
    from speechattn.sweep.table import figure, markdown_table

    found = read_records(records)
    print(markdown_table(found))
    if plot is not None:
        figure(found).savefig(plot)
        print(f"\nfigure  {plot}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"sweep.py: {error}")

"""`speechattn compare`: two or more runs side by side; `training/comparison/` does the work."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from speechattn.cli.options import Parser
from speechattn.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Compare the runs that the options `argv` name; return the exit status."""
    options = _parse(argv)
    from speechattn.system.atomic_files import to_json
    from speechattn.training.comparison.run_result import read_results
    from speechattn.training.comparison.tables import as_json, format_text

    results = read_results(options.runs)
    print(to_json(as_json(results)) if options.format == "json" else format_text(results))
    if options.out is not None:
        from speechattn.training.comparison.page import write_comparison

        page = write_comparison(options.out, results)
        if options.format == "text":
            print(f"\npage    {page}")
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        "speechattn compare",
        description="Scores, costs and settings of runs side by side, with the difference of each to the first.",
        epilog="A run is the folder that --out of speechattn train named, or baselines/ENCODER inside it.",
    )
    add = parser.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run; give two or more")
    add("--out", type=Path, metavar="DIR", help="folder for compare.html, with curves and confusions of all runs")
    add("--format", choices=("text", "json"), default="text", help="of what is printed (default text)")
    options = parser.parse_args(argv)
    if len(options.runs) < 2:
        raise UserError(f"{options.runs[0]} alone has nothing to be compared with: give two runs or more.")
    return options

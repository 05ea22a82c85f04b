"""Collect finished runs as rows of a JSON file, and print them as a Markdown table.

    python scripts/collect_rows.py RUN ... --commit COMMIT --machine TEXT [--name NAME] [--base NAME] [--smoothed FILE]
    python scripts/collect_rows.py --table

A row of the same name is replaced. Its command lists the settings that differ from the preset `librispeech` of the
recipe; `look_ahead_ms` is that of all layers and the splice, as describe() prints it, without frontend and smoothing.
FILE is what scripts/score_frames.py --json-out wrote for the run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import runpy
import shlex
from pathlib import Path
from typing import Any

from speechattn.models.speech_model import load
from speechattn.system.atomic_files import write_json
from speechattn.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "docs" / "data" / "tricks.json"
OF_THE_MACHINE = ("out", "data", "alignments", "cache", "workers", "threads", "device", "checkpoint_seconds")


def command_of(config: TrainConfig) -> str:
    """Return the options that make `config` of the preset librispeech, without folders."""
    preset = runpy.run_path(str(ROOT / "recipes/frame_classifier/train.py"))["PRESETS"]["librispeech"].to_dict()
    words = []
    for name, value in config.to_dict().items():
        if value == preset[name] or name in OF_THE_MACHINE or name == "valid_every":
            continue
        values = [Path(item).name for item in value] if name == "teachers" else value
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else f"--no-{name.replace('_', '-')}")
        elif isinstance(value, list):
            words.append(shlex.join([option, *map(str, values)]))
        else:
            words.append(f"{option} {value}")
    return " ".join(["--preset librispeech", *words])


def row_of(run: Path, name: str, commit: str, machine: str, base: str | None) -> dict[str, Any]:
    """Return the row of a finished run."""
    result = json.loads((run / "result.json").read_text())
    config = TrainConfig.from_dict(json.loads((run / "config.json").read_text()))
    model = load(run / "model")
    ahead = model.encoder.lookahead
    finished = datetime.datetime.fromtimestamp((run / "result.json").stat().st_mtime, datetime.UTC)
    return {
        "name": name,
        "base": base,
        "command": command_of(config),
        "commit": commit,
        "machine": machine,
        "date": finished.date().isoformat(),
        "seconds": result["seconds"],
        "steps": result["steps"],
        "epochs": result["epochs"],
        "accuracy": result["accuracy"],
        "accuracy_no_sil": result["accuracy_no_sil"],
        "tests": {subset: scores["accuracy"] for subset, scores in result["tests"].items()},
        "parameters": result["parameters"],
        "look_ahead_ms": None if ahead is None else ahead * model.config.framing.hop_ms,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        "| row | validation speakers | without silence | test-other | parameters | look-ahead | epochs | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ahead = "no limit" if row["look_ahead_ms"] is None else f"{row['look_ahead_ms']:.0f} ms"
        cells = [f"{row[key]:.4f}" for key in ("accuracy", "accuracy_no_sil")]
        cells += [f"{row['tests']['test-other']:.4f}", f"{row['parameters']:,}", ahead, str(row["epochs"])]
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {row['seconds'] / 60:.1f} |")
    return lines


def main() -> None:
    """Add rows, and print all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*", help="folders of finished runs")
    parser.add_argument("--name", help="of the row; the default is that of the folder")
    parser.add_argument("--base", help="name of the row that this one is compared with")
    parser.add_argument("--commit", default="")
    parser.add_argument("--machine", default="")
    parser.add_argument("--smoothed", type=Path, metavar="FILE", help="scores of the run by score_frames.py")
    parser.add_argument("--table", action="store_true", help="print only")
    options = parser.parse_args()
    rows = json.loads(ROWS.read_text()) if ROWS.exists() else []
    for run in options.runs:
        row = row_of(run, options.name or run.name, options.commit, options.machine, options.base)
        if options.smoothed is not None:
            row["smoothed"] = json.loads(options.smoothed.read_text())["rows"]
        rows = [other for other in rows if other["name"] != row["name"]] + [row]
    if options.runs and not options.table:
        write_json(ROWS, rows)
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()

"""The table of docs/best_frames.md is the one that scripts/collect_rows.py makes of docs/data/tricks.json."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from speechattn.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "scripts" / "collect_rows.py"))
ROWS: list[dict[str, Any]] = json.loads((ROOT / "docs" / "data" / "tricks.json").read_text())


def test_the_document_has_the_table_of_the_rows() -> None:
    text = (ROOT / "docs" / "best_frames.md").read_text()
    assert "\n".join(SCRIPT["table"](ROWS)) in text


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["name"]))
def test_a_row_says_where_it_comes_from(row: dict[str, Any]) -> None:
    assert all(row[key] for key in ("command", "commit", "machine", "date", "seconds", "steps", "parameters"))
    assert 0 < row["accuracy_no_sil"] <= row["accuracy"] < 0.9  # an aligner's labels: see the document
    assert row["base"] is None or row["base"] in [other["name"] for other in ROWS]


def test_a_command_names_what_differs_from_the_preset() -> None:
    preset: TrainConfig = runpy.run_path(str(ROOT / "recipes/frame_classifier/train.py"))["PRESETS"]["librispeech"]
    changed = TrainConfig.from_dict({**preset.to_dict(), "ema": 0.9, "baselines": [], "augment": False, "out": "x"})
    assert SCRIPT["command_of"](changed) == "--preset librispeech --baselines --no-augment --ema 0.9"

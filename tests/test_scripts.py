"""The scripts run as a person runs them: in a process of their own, with the numbers where they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARK = ROOT / "scripts" / "benchmark_attention_memory.py"
PASSES = ("forward", "forward + backward")


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_the_memory_benchmark_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    sides = ["--left", "3", "--right", "2", "--chunk", "2"]
    ran = run(BENCHMARK, "--frames", "4000", "2000", "4000", *sides, "--json", str(tmp_path / "memory.json"))
    assert ran.returncode == 0, ran.stderr
    assert "4/4" in ran.stderr
    title, passes, head, *rows, forward, backward = ran.stdout.splitlines()
    assert "left 3, right 2, chunk 2" in title and "float32" in title
    assert [name.strip() for name in passes.split("|")] == ["", *PASSES]
    assert head.split() == ["frames", *["|", "ms", "extra", "MB", "KB/frame"] * 2]
    assert [int(row.split()[0]) for row in rows] == [2000, 4000]

    written = json.loads((tmp_path / "memory.json").read_text())
    assert (written["left"], written["right"], written["chunk"]) == (3, 2, 2)
    for column, (name, line) in enumerate(zip(PASSES, [forward, backward], strict=True), start=1):
        found = written["passes"][name]
        for row, point in zip(rows, found["points"], strict=True):
            milliseconds, megabytes, per_frame = (float(cell) for cell in row.split("|")[column].split())
            assert milliseconds == pytest.approx(point["ms"], abs=0.051) and point["ms"] > 0
            assert megabytes == pytest.approx(point["extra_bytes"] / 1e6, abs=0.0051)
            assert per_frame == pytest.approx(point["extra_bytes"] / 1e3 / point["frames"], abs=0.0051)
        said = re.fullmatch(rf"{re.escape(name)}: slope (\S+) KB/frame, largest deviation from the line (\S+) %", line)
        assert said is not None
        assert float(said[1]) == pytest.approx(found["slope_kb_per_frame"], abs=0.00051)
        assert float(said[2]) == pytest.approx(found["largest_deviation_percent"], abs=0.0051)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--frames", "5", "5"], "two or more different lengths"), (["--right", "-1"], "right must be 0 or more frames")],
)
def test_the_memory_benchmark_refuses_what_it_cannot_measure(arguments: list[str], said: str) -> None:
    ran = run(BENCHMARK, *arguments)
    assert ran.returncode == 2 and said in ran.stderr and ran.stdout == ""


def test_the_frontend_benchmark_prints_time_and_memory_of_both_flavors() -> None:
    ran = run(ROOT / "scripts" / "benchmark_frontend.py", "--minutes", "0.5")
    assert ran.returncode == 0, ran.stderr
    flavors = [
        re.fullmatch(r"(\w+) +0.5 minutes of audio: [\d.]+ s, extra .*x\)", row) for row in ran.stdout.splitlines()
    ]
    assert [match[1] for match in flavors if match] == ["kaldi", "librosa"]

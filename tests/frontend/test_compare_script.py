"""scripts/compare_mfcc.py runs from the command line, and finds the references equal."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def test_the_comparison_prints_small_differences_and_times(torchaudio: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("numba", reason="librosa computes with numba")
    soundfile = pytest.importorskip("soundfile", reason="soundfile writes the recording")
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(scale=0.1, size=16_000), 16_000)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "scripts" / "compare_mfcc.py"), str(tmp_path), "--minutes", "0.2"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    rows = re.findall(r"^(?:torchaudio|librosa), \d+ of \d+ +(\S+) +(\S+) +(\S+)$", ran.stdout, flags=re.MULTILINE)
    assert len(rows) == 4 and all(0 < float(cell) < 1e-5 for row in rows for cell in row)
    assert re.findall(r"^(\w+) 0.2 minutes of audio: [\d.]+ s", ran.stdout, flags=re.M) == ["speechattn", "torchaudio"]

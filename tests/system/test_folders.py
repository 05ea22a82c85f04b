"""Links are followed, rings end, and what is found does not depend on the order in which a disk lists it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechattn.augment.noise import NoiseFolder
from speechattn.data.labels.alignments import load_alignments
from speechattn.data.librispeech import LibriSpeech
from speechattn.errors import DataError
from speechattn.system.folders import files_below

GRID = '"ooTextFile" "TextGrid" 0 1 <exists> 1 "IntervalTier" "phones" 0 1 1 0 1 "sil"'


def found(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder)]


def test_folders_behind_links_are_walked_once_and_rings_end(tmp_path: Path) -> None:
    here, disk = tmp_path / "here", tmp_path / "disk"
    for folder in (here / "a" / "deep", disk / "z"):
        folder.mkdir(parents=True)
        (folder / "x.wav").touch()
    (here / "._hidden").touch()
    (here / "broken").symlink_to(tmp_path / "nowhere")
    (here / "a" / "up").symlink_to(here)  # a ring
    (here / "first").symlink_to(here / "a" / "deep")  # a real folder keeps its own name
    (here / "link").symlink_to(disk)
    (disk / "z" / "back").symlink_to(here / "link")
    (here / "a" / "deep" / "other").symlink_to(disk / "z")  # deeper than link/z
    (here / "itself").symlink_to(here / "itself")
    assert found(here) == ["a/deep/x.wav", "broken", "itself", "link/z/x.wav"]
    with pytest.raises(DataError, match="nowhere cannot be listed"):
        files_below(tmp_path / "nowhere")


def test_recordings_alignments_and_noise_are_found_behind_links(tmp_path: Path) -> None:
    disk = tmp_path / "disk" / "19" / "198"
    disk.mkdir(parents=True)
    soundfile.write(disk / "19-198-0000.FLAC", np.zeros(160), 16_000, format="FLAC")
    (disk / "19-198-0000.textgrid").write_text(GRID)
    (disk / "round").symlink_to(tmp_path / "disk")
    root = tmp_path / "linked" / "train"
    root.mkdir(parents=True)
    (root / "19").symlink_to(tmp_path / "disk" / "19")
    assert [utterance.id for utterance in LibriSpeech(tmp_path / "linked", "train")] == ["19-198-0000"]
    assert set(load_alignments(tmp_path / "linked", "train/")) == {"19-198-0000"}
    assert NoiseFolder(root).sizes == {"19/198/19-198-0000.FLAC": 160} and len(NoiseFolder(root)) == 1

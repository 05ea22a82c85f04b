"""Noise from a folder: which files count, and pieces that depend on the generator alone."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechattn.augment.noise import NoiseFolder
from speechattn.data.audio.errors import AudioError, AudioWarning
from speechattn.errors import DataError

RATE = 16_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def write(path: Path, num_samples: int, first: int = 1) -> Path:
    """A file that counts: sample k holds first + k, so that a piece tells where it is from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (np.arange(num_samples) + first).astype(np.float32) / 2**15, RATE, subtype="PCM_16")
    return path


def counted(waveform: torch.Tensor) -> list[int]:
    return (waveform * 2**15).round().int().tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "b.wav", 10)
    write(tmp_path / "street" / "a.flac", 1000, first=5000)
    (tmp_path / "LICENSE").write_text("Free for all.")
    (tmp_path / ".hidden.wav").write_text("left by an editor")
    return tmp_path


def test_sound_files_below_the_folder_are_found_and_others_skipped(folder: Path) -> None:
    assert NoiseFolder(folder).sizes == {"b.wav": 10, "street/a.flac": 1000}
    assert NoiseFolder(folder, 8000).sizes == {"b.wav": 5, "street/a.flac": 500}


def test_a_piece_is_decided_by_the_generator(folder: Path) -> None:
    noise = NoiseFolder(folder)
    pieces = [noise.cut(700, generator(seed)) for seed in range(12)]
    for seed, piece in enumerate(pieces):
        again = noise.cut(700, generator(seed))
        assert torch.equal(again.waveform, piece.waveform) and again[1:] == piece[1:]
    assert {piece.name for piece in pieces} == {"b.wav", "street/a.flac"}
    assert len({piece.start for piece in pieces}) > 4


@pytest.mark.parametrize("num_samples", [0, 1, 9, 10, 11, 25, 999, 1000, 1001])
def test_a_long_file_is_cut_and_a_short_one_begins_again(folder: Path, num_samples: int) -> None:
    noise = NoiseFolder(folder)
    for seed in range(8):
        piece = noise.cut(num_samples, generator(seed))
        size, first = {"b.wav": (10, 1), "street/a.flac": (1000, 5000)}[piece.name]
        assert counted(piece.waveform) == [first + (piece.start + k) % size for k in range(num_samples)]
        assert piece.start + num_samples <= size or num_samples > size


def test_damaged_sound_is_named_and_left_out(folder: Path) -> None:
    whole = write(folder / "cut.wav", 1000).read_bytes()
    (folder / "cut.wav").write_bytes(whole[:600])
    (folder / "pointer.wav").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.warns(AudioWarning, match=r"2 sound files cannot .*: cut.wav \(truncated\), pointer.wav \(text\)"):
        assert set(NoiseFolder(folder).sizes) == {"b.wav", "street/a.flac"}


def test_a_folder_without_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        NoiseFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="found nothing"):
        NoiseFolder(tmp_path)
    (tmp_path / "notes.txt").write_text("nothing to hear")
    write(tmp_path / "void.wav", 0)
    with pytest.raises(DataError, match=r"found notes.txt \(text\), void.wav \(no samples\)"):
        NoiseFolder(tmp_path)


def test_a_file_that_breaks_later_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", 1000)
    noise = NoiseFolder(tmp_path)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(AudioError, match=r"a\.wav: truncated"):
        noise.cut(10, generator())
    with pytest.raises(ValueError, match="0 or more, got -1"):
        noise.cut(-1, generator())

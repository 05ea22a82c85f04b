"""Four kinds of damaged sound that came through as if they were whole.

Half an Ogg file was read as half its audio, or as none, without a word: libsndfile counts the samples it finds. A
float WAV that held 1e30 was finite, so it was taken; its power was not, and training died of a NaN hours from the
file. So was one of 16-bit integers that were not divided by 32768. A file whose name is not UTF-8 was called an
unknown format, because soundfile could not encode the name.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechattn.data.audio.errors import AudioError
from speechattn.data.audio.files import audio_samples, load_audio


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(round(16_000 * seconds)) * 0.1


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_an_ogg_file_that_is_cut_is_refused_wherever_it_is_cut(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, noise(2), 16_000, subtype=codec)
    whole = path.read_bytes()
    assert audio_samples(path) == len(load_audio(path)[0]) == 32_000
    for size in [*range(1, len(whole), len(whole) // 20), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(AudioError):
            audio_samples(path)


@pytest.mark.parametrize("channels", [1, 2])
def test_finite_nonsense_is_named(tmp_path: Path, channels: int) -> None:
    path = tmp_path / "a.wav"
    samples = np.zeros((1000, channels), dtype=np.float32)
    samples[123] = 3e38  # two of them overflow in the mean of the channels
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="sample 123 is 3") as caught:
        load_audio(path)
    assert caught.value.reason == "out of range"


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_unscaled_integers_are_named_and_loud_sound_is_not(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1) * 100, 16_000, subtype="FLOAT")
    assert load_audio(path)[0].abs().max() > 30
    soundfile.write(path, np.full(1000, -(2.0 ** (bits - 1))), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=f"sample 0 is .* {bits}-bit samples as floats; divide by {2 ** (bits - 1)}"):
        load_audio(path)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_file_whose_name_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    soundfile.write(os.fsencode(path), noise(1), 16_000, format="WAV")
    assert len(load_audio(path)[0]) == audio_samples(path) == 16_000

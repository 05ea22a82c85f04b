"""Spoken words by espeak-ng as a class folder: two subsets without a common voice, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from speechattn.data.class_folder import ClassFolder
from speechattn.data.synthetic.spoken_words import SpokenWordsConfig, synthesize_words

SMALL = SpokenWordsConfig(words=("yes", "no"), names=("ja", "nein"), takes=2, train_speakers=2, test_speakers=1)


def test_words_are_made_once_with_other_voices_in_the_test_subset(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="synthetic speech needs the extra [synth]")
    root = synthesize_words(tmp_path, SMALL, progress=False)
    train, test = ClassFolder(root / "train"), ClassFolder(root / "test")
    assert (len(train), len(test)) == (8, 4) and train.classes == test.classes == ("ja", "nein")
    assert set(train.speakers).isdisjoint(test.speakers)
    sounds = [soundfile.read(utterance.path) for utterance in (*train, *test)]
    assert {rate for _, rate in sounds} == {8000}
    assert all(0.1 < len(samples) / 8000 < 2 and abs(samples).max() > 0.005 for samples, _ in sounds)
    assert len({len(samples) for samples, _ in sounds}) > 6, "takes differ"
    written = {path: path.stat().st_mtime_ns for path in root.rglob("*.flac")}
    assert synthesize_words(tmp_path, SMALL, progress=False) == root
    assert written == {path: path.stat().st_mtime_ns for path in root.rglob("*.flac")}
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="one for each of the 2 words"):
        SpokenWordsConfig(words=("yes", "no"), names=("a",))
    with pytest.raises(ValueError, match="takes"):
        SpokenWordsConfig(takes=0)

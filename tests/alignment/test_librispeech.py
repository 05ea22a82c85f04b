"""Real LibriSpeech without its alignments, from nothing: the times that come out, compared with the alignments."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechattn.alignment.agreement import compare_alignments
from speechattn.alignment.pronunciations import Pronunciations
from speechattn.alignment.rounds import AlignConfig, align_corpus
from speechattn.data.labels.alignments import load_alignments
from speechattn.data.librispeech import LibriSpeech


@pytest.mark.slow
def test_train_clean_agrees_with_its_alignments(
    librispeech_shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes: synthesis, four trainings and four alignments of an hour of speech."""
    pytest.importorskip("espeakng_loader")
    monkeypatch.setenv("SPEECHATTN_CACHE", str(tmp_path / "cache"))
    pronounce = Pronunciations(cache=tmp_path / "cache")
    utterances = LibriSpeech(librispeech_shared, "train-clean-100")

    def words(text: str) -> list[str]:
        return text.lower().split()

    result = align_corpus(utterances, words, pronounce, tmp_path / "out", AlignConfig())
    reference = load_alignments(librispeech_shared / "alignments", "train-clean-100")
    found = compare_alignments((aligned.phones, reference[id].segments) for id, aligned in result.aligned.items())
    assert len(result.excluded) <= 3
    assert found.frame_share >= 0.81
    assert found.within(20) >= 0.79 and found.within(50) >= 0.96
    assert abs(found.mean_error_ms) < 5

"""A corpus of tones, one pitch a phone, is aligned from its transcripts alone; what cannot be aligned is excluded."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechattn.alignment import acoustic_model, rounds
from speechattn.alignment.agreement import compare_alignments
from speechattn.alignment.rounds import AlignConfig, AlignmentResult, align_corpus
from speechattn.alignment.settings import AlignSettings
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segments import Segment, Utterance
from speechattn.errors import ConfigError, DataError
from speechattn.framing import Framing
from speechattn.frontend.logmel import LogMel
from speechattn.system.stop_signal import Interrupted, StopSignal

RATE = Framing().sample_rate
PITCH_HZ = {"AA": 300, "IY": 700, "S": 1500, "M": 3000, "K": 5500}
LEXICON: dict[str, list[tuple[str, ...]]] = {
    "see": [("S", "IY")],
    "ma": [("M", "AA"), ("K", "K")],
    "kia": [("K", "IY", "AA")],
    "skee": [("S", "K", "IY")],
}
CONFIG = AlignConfig(rounds=1, steps=40, min_score=-20.0)


Corpus = list[tuple[Utterance, list[Segment]]]


def speak(words: Iterable[str], seed: int) -> tuple[NDArray[np.float64], list[Segment]]:
    """Return noise with a tone for each phone, and the phones with their times."""
    random = np.random.default_rng(seed)
    samples, segments = [np.zeros(int(random.uniform(0.1, 0.3) * RATE))], []
    for phone in (phone for word in words for phone in LEXICON[word][0]):
        start = sum(map(len, samples))
        length = int(random.uniform(0.05, 0.2) * RATE)
        samples.append(0.2 * np.sin(2 * np.pi * PITCH_HZ[phone] * np.arange(length) / RATE))
        segments.append(Segment(start / RATE, (start + length) / RATE, phone))
    samples.append(np.zeros(int(random.uniform(0.1, 0.3) * RATE)))
    waveform = np.concatenate(samples)
    stop = len(waveform) / RATE
    first, last = Segment(0, segments[0].start_s, "SIL"), Segment(segments[-1].stop_s, stop, "SIL")
    return waveform + 0.002 * random.normal(size=len(waveform)), [first, *segments, last]


def add(folder: Path, id: str, transcript: str, seed: int = 0) -> tuple[Utterance, list[Segment]]:
    waveform, segments = speak(transcript.split(), seed)
    path = folder / f"{id}.wav"
    soundfile.write(path, waveform, RATE)
    return Utterance(id, id[0], path, transcript.upper()), segments


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("tones")
    return [
        add(folder, f"{number % 4}-{number:02d}", " ".join(random.choice(list(LEXICON), size=3)), number)
        for number in range(32)
    ]


def labelled_tones(frontend: LogMel) -> list[tuple[Tensor, Tensor]]:
    """Return frames and labels of other tones, in place of the synthetic corpus."""
    examples = []
    for seed in range(100, 120):
        waveform, segments = speak(LEXICON, seed)
        frames, _ = frontend(torch.from_numpy(waveform).float()[None])
        examples.append((frames[0], frame_labels(segments, len(waveform), frontend.framing)))
    return examples


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acoustic_model, "D_MODEL", 48)
    monkeypatch.setattr(acoustic_model, "BATCH_FRAMES", 1000)
    monkeypatch.setattr(acoustic_model, "Augment", lambda fill: lambda frames, lengths, generator: frames)  # quicker
    monkeypatch.setattr(acoustic_model, "LEARNING_RATE", 1e-2)
    monkeypatch.setattr(rounds, "PART_UTTERANCES", 10)
    monkeypatch.setattr(rounds, "synthetic_examples", labelled_tones)


def align(
    utterances: Iterable[Utterance],
    folder: Path,
    config: AlignConfig = CONFIG,
    stop: StopSignal | None = None,
    model: Path | None = None,
) -> AlignmentResult:
    def pronounce(words: Iterable[str]) -> dict[str, list[tuple[str, ...]]]:
        return {word: LEXICON[word] for word in words if word in LEXICON}

    return align_corpus(list(utterances), lambda text: text.lower().split(), pronounce, folder, config, stop, model)


@pytest.fixture(scope="module")
def result(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> AlignmentResult:
    with pytest.MonkeyPatch.context() as patch:
        small_model.__wrapped__(patch)  # type: ignore[attr-defined]
        return align((utterance for utterance, _ in corpus), tmp_path_factory.mktemp("result"))


def test_phones_begin_where_they_sound(result: AlignmentResult, corpus: Corpus) -> None:
    assert result.excluded == {}
    pairs = [(result.aligned[utterance.id].phones, segments) for utterance, segments in corpus]
    found = compare_alignments(pairs)
    assert found.match_share == 1 and found.within(20) > 0.9 and found.frame_share > 0.9


def test_phones_cover_the_audio_and_words_hold_their_phones(result: AlignmentResult, corpus: Corpus) -> None:
    for utterance, segments in corpus:
        aligned = result.aligned[utterance.id]
        assert aligned.phones[0].start_s == 0 and aligned.phones[-1].stop_s == segments[-1].stop_s
        assert all(a.stop_s == b.start_s for a, b in pairwise(aligned.phones))
        assert [word.label for word in aligned.words] == str(utterance.transcript).lower().split()
        for word in aligned.words:
            inside = [p.label for p in aligned.phones if word.start_s <= p.start_s and p.stop_s <= word.stop_s]
            assert tuple(inside) in LEXICON[word.label]
        assert aligned.score <= 0


def test_the_alternative_that_sounds_is_taken(result: AlignmentResult) -> None:
    for aligned in result.aligned.values():
        phones = [phone.label for phone in aligned.phones if phone.label != "SIL"]
        assert ("K", "K") not in list(pairwise(phones))


def test_the_same_call_continues_and_trains_nothing(
    result: AlignmentResult, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "train_acoustic_model", None)
    monkeypatch.setattr(rounds, "align_part", None)
    again = align((utterance for utterance, _ in corpus), result.model.parents[1])
    assert dict(again.aligned) == dict(result.aligned)


def test_an_interrupted_call_continues_with_the_same_result(
    result: AlignmentResult, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances = [utterance for utterance, _ in corpus]
    for place in ("train_acoustic_model", "save_round", "save_part"):
        whole = getattr(rounds, place)
        stop = StopSignal()

        def interrupted(*arguments: Any, whole: Any = whole, signal: StopSignal = stop, **options: Any) -> None:
            whole(*arguments, **options)
            signal.received = 15

        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(rounds, place, interrupted)
            align(utterances, tmp_path, stop=stop)
    assert dict(align(utterances, tmp_path).aligned) == dict(result.aligned)


def test_a_damaged_part_is_made_again(result: AlignmentResult, corpus: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(result.model.parents[1], folder)
    part = next(folder.glob("*/part-00001.json"))
    part.write_bytes(part.read_bytes()[:-40])
    again = align((utterance for utterance, _ in corpus), folder)
    assert dict(again.aligned) == dict(result.aligned)


def test_another_limit_of_the_score_needs_no_new_alignment(
    result: AlignmentResult, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "align_part", None)
    config = replace(CONFIG, min_score=0.5)  # above the best possible score
    kept = align((utterance for utterance, _ in corpus), result.model.parents[1], config)
    assert kept.excluded.keys() == result.aligned.keys() and not kept.aligned
    assert all(reason.startswith("score ") and reason.endswith(" below 0.5") for reason in kept.excluded.values())


def test_utterances_that_cannot_be_aligned_are_excluded_with_the_reason(
    result: AlignmentResult, tmp_path: Path
) -> None:
    good, _ = add(tmp_path, "a-good", "see kia")
    short, _ = add(tmp_path, "b-short", "see")
    silent, _ = add(tmp_path, "c-silent", "see ma kia")
    soundfile.write(silent.path, np.zeros(2 * RATE), RATE)
    cut, _ = add(tmp_path, "d-cut", "see")
    cut.path.write_bytes(cut.path.read_bytes()[:2000])
    empty, _ = add(tmp_path, "e-empty", "see")
    soundfile.write(empty.path, np.zeros(0), RATE)
    utterances = [
        good,
        replace(short, transcript="see " * 50),
        silent,
        cut,
        empty,
        replace(good, id="f-missing", path=tmp_path / "missing.wav"),
        replace(good, id="g-wordless", transcript=" "),
        replace(good, id="h-without", transcript=None),
        replace(good, id="i-unknown", transcript="SEE XYZZY KIA PLUGH"),
    ]
    found = align(utterances, tmp_path / "out", replace(CONFIG, min_score=-3.0), model=result.model)
    assert list(found.aligned) == ["a-good"]
    reasons = found.excluded
    assert reasons["b-short"].startswith("shorter than its phones: ")
    assert reasons["c-silent"].startswith("score -")
    assert reasons["d-cut"].startswith("cannot be decoded: ") and str(cut.path) in reasons["d-cut"]
    assert reasons["e-empty"].startswith(("shorter than its phones: 0 frames", "cannot be decoded: "))
    assert reasons["f-missing"] == f"cannot be decoded: {tmp_path / 'missing.wav'} does not exist."
    assert reasons["g-wordless"] == "no words in the transcript" and reasons["h-without"] == "no transcript"
    assert reasons["i-unknown"] == "no pronunciation of plugh, xyzzy"
    assert len(reasons) == 8


def test_a_wrong_transcript_has_a_lower_score(result: AlignmentResult, corpus: Corpus, tmp_path: Path) -> None:
    utterances = [utterance for utterance, _ in corpus]
    others = [*utterances[1:], utterances[0]]
    swapped = [
        replace(mine, transcript=other.transcript)
        for mine, other in zip(utterances, others, strict=True)
        if mine.transcript != other.transcript
    ]
    wrong = align(swapped, tmp_path, model=result.model).aligned
    right = min(aligned.score for aligned in result.aligned.values())
    assert max(aligned.score for aligned in wrong.values()) < right


def test_nothing_to_align_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no utterances"):
        align([], tmp_path)
    with pytest.raises(DataError, match="a-1: no transcript"):
        align([Utterance("a-1", "a", tmp_path / "a-1.wav")], tmp_path)


def test_a_corpus_without_any_audio_is_an_error(tmp_path: Path) -> None:
    lost = Utterance("a-1", "a", tmp_path / "a-1.wav", "see")
    with pytest.raises(DataError, match=r"a-1: cannot be decoded: .* does not exist"):
        align([lost], tmp_path / "out")


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    utterance, _ = add(tmp_path, "a-1", "see")
    with pytest.raises(DataError, match="holds no acoustic model"):
        align([utterance], tmp_path / "out", model=tmp_path)


@pytest.mark.parametrize(
    "settings", [{"rounds": -1}, {"steps": 0}, {"start": "cold"}, {"seed": 0.5}, {"threads": 0}, {"train_hours": 0}]
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        AlignConfig(**settings)


def test_the_command_has_the_defaults_of_the_function() -> None:
    fields = {field.name: field.default for field in dataclasses.fields(AlignSettings)}
    for field in dataclasses.fields(AlignConfig):
        assert fields[field.name] == field.default or not (fields[field.name] or field.default), field.name

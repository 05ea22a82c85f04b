"""The synthetic corpus is read by the same loader, its labels fit the audio, and the cache is complete or absent."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tqdm import tqdm

from speechattn.data.labels.classes import PHONES
from speechattn.data.labels.ctm import read_ctm
from speechattn.data.labels.frame_labels import read_classes
from speechattn.data.librispeech import LibriSpeech
from speechattn.data.synthetic import corpus as synthetic
from speechattn.data.synthetic import worker, worker_pool
from speechattn.data.synthetic.arpabet import VOWELS
from speechattn.data.synthetic.config import SyntheticConfig
from speechattn.data.synthetic.corpus import synthesize_corpus
from speechattn.data.synthetic.worker import speaker_texts
from speechattn.errors import UserError
from speechattn.system.cache_folder import default_cache

ROOT = Path(__file__).parents[2]
SMALL = SyntheticConfig(train_utterances=6, test_utterances=3, train_speakers=3, test_speakers=2, seed=7)
TINY = SyntheticConfig(train_utterances=1, test_utterances=1, seed=8)


@pytest.fixture(autouse=True)
def engine_wheel() -> None:
    pytest.importorskip("espeakng_loader", reason="the extra [synth] is not installed")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("espeakng_loader", reason="the extra [synth] is not installed")
    return synthesize_corpus(tmp_path_factory.mktemp("cache"), SMALL, progress=False)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_librispeech_loader_reads_it(corpus: Path) -> None:
    train, test = LibriSpeech(corpus, "train"), LibriSpeech(corpus, "test")
    assert (len(train), len(test)) == (6, 3)
    assert len({utterance.speaker for utterance in train}) == 3 and len({u.speaker for u in test}) == 2
    for utterance in itertools.chain(train, test):
        speaker, chapter, number = utterance.id.split("-")
        assert speaker.isdigit() and chapter == "1" and len(number) == 4
    assert read_classes(corpus / "alignments" / "classes.txt") == PHONES


def test_voices_and_texts_of_test_are_new(corpus: Path) -> None:
    train, test = LibriSpeech(corpus, "train"), LibriSpeech(corpus, "test")
    assert {u.speaker for u in train}.isdisjoint(u.speaker for u in test)
    texts = [u.transcript for u in itertools.chain(train, test)]
    assert len(set(texts)) == 9
    by_subset = {"train": set[str](), "test": set[str]()}
    for speaker in speaker_texts(SyntheticConfig()):
        by_subset[speaker.subset] |= {speaker.voice.name.split("+")[1]}
    assert by_subset["train"].isdisjoint(by_subset["test"])


@pytest.mark.parametrize("subset", ["train", "test"])
def test_labels_cover_the_audio(corpus: Path, subset: str) -> None:
    phones = read_ctm(corpus / "alignments" / f"{subset}.phones.ctm")
    words = read_ctm(corpus / "alignments" / f"{subset}.words.ctm")
    recordings = {path.stem: path for path in (corpus / "LibriSpeech" / subset).rglob("*.flac")}
    transcripts = {utterance.id: utterance.transcript for utterance in LibriSpeech(corpus, subset)}
    assert set(phones) == set(words) == set(recordings) == set(transcripts)
    for utterance, path in recordings.items():
        duration = soundfile.info(path).frames / 16_000
        for segments in (phones[utterance], words[utterance]):
            assert segments[0].start_s == 0 and segments[-1].stop_s == pytest.approx(duration, abs=1e-9)
            assert all(a.stop_s == pytest.approx(b.start_s, abs=1e-9) for a, b in itertools.pairwise(segments))
        assert {segment.label for segment in phones[utterance]} <= set(PHONES[:-1])
        spoken = [segment.label for segment in words[utterance] if segment.label != "<sil>"]
        assert " ".join(spoken).replace("_", " ").upper() == transcripts[utterance]
        edges = {round(1000 * segment.start_s) for segment in phones[utterance]}
        assert {round(1000 * segment.start_s) for segment in words[utterance]} <= edges


def test_vowels_are_louder_than_silence(corpus: Path) -> None:
    for subset in ("train", "test"):
        phones = read_ctm(corpus / "alignments" / f"{subset}.phones.ctm")
        for path in (corpus / "LibriSpeech" / subset).rglob("*.flac"):
            power = np.square(soundfile.read(path)[0])
            level: dict[bool, list[float]] = {True: [], False: []}
            for segment in phones[path.stem]:
                if segment.label in VOWELS or segment.label == "SIL":
                    span = power[round(segment.start_s * 16_000) : round(segment.stop_s * 16_000)]
                    level[segment.label == "SIL"].append(10 * np.log10(span.mean()))
            # The noise is at least 15 dB under the speech, and vowels are the louder part of speech.
            assert np.median(level[False]) > np.median(level[True]) + 12


def test_a_complete_cache_is_used_as_it_is(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "run_workers", lambda *_: pytest.fail("made again"))
    assert synthesize_corpus(corpus.parent, SMALL, progress=False) == corpus


def test_the_same_config_makes_the_same_corpus(corpus: Path, tmp_path: Path) -> None:
    again = synthesize_corpus(tmp_path, SMALL, progress=False)
    assert again.name == corpus.name
    assert tree(again) == tree(corpus)


def test_another_seed_is_another_corpus(corpus: Path) -> None:
    other = synthesize_corpus(corpus.parent, TINY, progress=False)
    assert other.name != corpus.name and corpus.is_dir()
    assert {u.transcript for u in LibriSpeech(other, "train")}.isdisjoint(
        u.transcript for u in LibriSpeech(corpus, "train")
    )


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    folder = synthesize_corpus(tmp_path, TINY, progress=False)
    whole = tree(folder)
    next((folder / "LibriSpeech").rglob("*.flac")).write_bytes(b"")
    assert synthesize_corpus(tmp_path, TINY, progress=False) == folder
    assert tree(folder) == whole


def test_ctrl_c_leaves_no_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(tqdm):  # type: ignore[misc]
        def update(self, n: float | None = 1) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(worker_pool, "progress_bar", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        synthesize_corpus(tmp_path, SMALL, progress=False)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    monkeypatch.undo()
    assert len(LibriSpeech(synthesize_corpus(tmp_path, SMALL, progress=False), "train")) == 6


def test_the_same_call_after_kill_9_makes_the_corpus(tmp_path: Path) -> None:
    config = SyntheticConfig(train_utterances=60, test_utterances=1, seed=9)
    source = (
        f"from speechattn.data.synthetic.corpus import *; synthesize_corpus(Path({str(tmp_path)!r}), {config}, False)"
    )
    killed = subprocess.Popen([sys.executable, "-c", source], cwd=ROOT)
    while not list(tmp_path.glob("*.partial-*/LibriSpeech/*/*/1/*.flac")):
        assert killed.poll() is None, "it ended before it was seen to write"
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert [".partial-" in path.name for path in tmp_path.iterdir() if path.is_dir()] == [True]
    folder = synthesize_corpus(tmp_path, config, progress=False)
    assert len(LibriSpeech(folder, "train")) == 60
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [folder]


def test_two_processes_at_once_make_one_corpus(tmp_path: Path) -> None:
    source = (
        "from speechattn.data.synthetic.corpus import *; "
        f"print(synthesize_corpus(Path({str(tmp_path)!r}), SyntheticConfig(1, 1), progress=False))"
    )
    both = [subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    folders = {process.communicate()[0] for process in both}
    assert [process.returncode for process in both] == [0, 0] and len(folders) == 1
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_neither_parent_nor_worker_imports_torch() -> None:
    source = "import sys; from speechattn.data.synthetic import corpus, worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], cwd=ROOT, check=False).returncode == 0


def test_a_missing_extra_is_reported_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match="pip install espeakng-loader"):
        synthesize_corpus(tmp_path / "new", SMALL, progress=False)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"Cannot write.*SPEECHATTN_CACHE="):
        synthesize_corpus(tmp_path / "file", TINY, progress=False)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match="MB are needed, 0 MB are free"):
        synthesize_corpus(tmp_path, TINY, progress=False)


def test_a_worker_that_fails_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "asdict", lambda _: {"seed": -1})
    with pytest.raises(RuntimeError, match=r"SyntheticConfig.seed must be a whole number from 0, got -1"):
        synthesize_corpus(tmp_path, TINY, progress=False)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(("error", "status"), [(OSError("disk full"), 3), (UserError("no voices"), 4)])
def test_a_worker_that_ends_reports_the_reason(
    error: Exception, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker, "Engine", fail)
    with pytest.raises(SystemExit) as ended:
        worker.main(str(tmp_path), "0", "2", "{}")
    assert ended.value.code == status and capsys.readouterr().err == f"{error}\n"


@pytest.mark.parametrize("wrong", [{"train_utterances": 0}, {"test_speakers": -1}, {"seed": -1}, {"seed": 0.5}])
def test_a_wrong_config_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"SyntheticConfig.{next(iter(wrong))} must be a whole number"):
        SyntheticConfig(**wrong)


def test_more_training_data_leaves_the_test_texts() -> None:
    few, many = (speaker_texts(SyntheticConfig(train_utterances=count)) for count in (50, 500))
    assert [r.texts for r in few if r.subset == "test"] == [r.texts for r in many if r.subset == "test"]
    assert sum(len(r.texts) for r in many if r.subset == "train") == 500


def test_the_cache_is_in_the_home_unless_the_environment_names_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEECHATTN_CACHE", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine"
    monkeypatch.delenv("SPEECHATTN_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "speechattn"
    monkeypatch.setattr(os, "access", lambda *_: False)  # a file system mounted read-only
    assert default_cache().parent == Path(tempfile.gettempdir())
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))  # no folder can be made in there
    assert default_cache().parent == Path(tempfile.gettempdir())

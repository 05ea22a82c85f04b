"""The cache of features: what is in it is what would be computed, and each fault of disk, data or process is met."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from speechattn.data.audio.errors import AudioWarning
from speechattn.data.labelled_corpus import load_corpus
from speechattn.data.labels.alignments import load_alignments
from speechattn.data.labels.classes import PHONES, SPEECH
from speechattn.errors import ConfigError, DataError, UserError
from speechattn.frontend.normalize import Normalize
from speechattn.system.atomic_files import write_synced
from speechattn.system.stop_signal import Interrupted, StopSignal
from speechattn.training.cache import features, folder, pool, shard, shard_set, tasks
from speechattn.training.cache.file_table import DIGEST_BYTES, FileTable
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import fingerprint, make_examples
from speechattn.training.prepare import Data, make_frontend, prepare
from speechattn.training.tasks.frames import FrameTask

IDS = [f"{10 + i % 10}-1-{i:04}" for i in range(50)]
LAST = "19-1-0049"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty recordings of ten speakers, 0.3 s each, of which 0.2 s are AH; made an hour ago, as the clock says."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "alignments").mkdir()
    lines = []
    for number, id in enumerate(IDS):
        chapter = folder / "LibriSpeech" / "train" / id.split("-")[0] / "1"
        chapter.mkdir(parents=True, exist_ok=True)
        sound = np.random.default_rng(number).uniform(-0.1, 0.1, 4800)
        soundfile.write(chapter / f"{id}.wav", sound, 16_000)
        lines += [f"{id} 1 0 0.1 sil", f"{id} 1 0.1 0.2 AH1"]
    (folder / "alignments" / "train.phones.ctm").write_text("\n".join(lines) + "\n")
    settle(folder)
    return folder


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


@pytest.fixture
def config(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    monkeypatch.setattr(tasks, "SHARD_IDS", 8)
    return TrainConfig(
        data=str(root),
        alignments=str(root / "alignments"),
        cache=str(tmp_path / "cache"),
        num_mels=10,
        valid_fraction=0.3,
        workers=0,
    )


def settle(folder: Path) -> None:
    """Give all files a time of change that is not just now."""
    for path in folder.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)


def prepared(config: TrainConfig) -> Data:
    with StopSignal() as stop:
        return prepare(config, stop)


def wav(root: Path, id: str) -> Path:
    return root / "LibriSpeech" / "train" / id.split("-")[0] / "1" / f"{id}.wav"


def shards(config: TrainConfig) -> dict[str, bytes]:
    """The shards of all settings by folder and name."""
    found = Path(str(config.cache)).glob("features/*/*.safetensors")
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read or made, a word for each task."""
    done: list[str] = []

    def counted(kind: str, settings: Any, wanted: Any, *rest: Any) -> Any:
        done.extend([kind] * len(wanted))
        return pool.run_jobs(kind, settings, wanted, *rest)

    monkeypatch.setattr(features, "run_jobs", counted)

    def read(*given: Any) -> Any:
        done.append("alignments")
        return load_alignments(*given)

    monkeypatch.setattr(features, "load_alignments", read)
    return done


# What is in it


@pytest.mark.parametrize("labels", ["phones", "speech", "detected"])
def test_examples_of_the_cache_equal_those_in_memory(config: TrainConfig, root: Path, labels: str) -> None:
    classes = PHONES if labels == "phones" else SPEECH
    source = None if labels == "detected" else root / "alignments"
    corpus = load_corpus(root, "train", source, classes)
    wanted = make_examples(corpus, make_frontend(config), FrameTask(classes))
    given = str(source) if source else None
    config = replace(config, labels="phones" if labels == "phones" else "speech", alignments=given)
    data = prepared(config)
    got = [*data.train, *data.valid]
    assert len(shards(config)) > 3 and [e.utterance.id for e in data.train] < [e.utterance.id for e in data.train] + [
        ""
    ]
    by_id = {example.utterance.id: example for example in wanted}
    assert sorted(by_id) == sorted(example.utterance.id for example in got)
    for example in got:
        other = by_id[example.utterance.id]
        assert torch.equal(example.frames, other.frames) and torch.equal(example.labels, other.labels)
        assert example.frames.dtype == torch.float32 and example.labels.dtype == torch.int64
        frames, known = example.cut(3, 9)
        assert torch.equal(frames, other.frames[3:9]) and torch.equal(known, other.labels[3:9])
        assert (example.num_frames, example.speaker) == (other.num_frames, other.speaker)
    memory = [by_id[example.utterance.id] for example in data.train]
    assert fingerprint(data.train, classes) == fingerprint(memory, classes)
    fitted = Normalize.fit(example.frames for example in memory)
    assert torch.equal(data.normalize().mean, fitted.mean) and torch.equal(data.normalize().std, fitted.std)


def test_a_warm_start_reads_neither_sound_nor_alignments(config: TrainConfig, jobs: list[str]) -> None:
    first = prepared(config).fingerprints()
    assert {*jobs} == {"files", "alignments", "shards"}
    jobs.clear()
    before = shards(config)
    assert prepared(config).fingerprints() == first
    assert jobs == [] and shards(config) == before


def test_other_settings_have_shards_of_their_own(config: TrainConfig, jobs: list[str]) -> None:
    prepared(config)
    before = shards(config)
    jobs.clear()
    other = prepared(replace(config, num_mels=12))
    assert {*jobs} == {"shards"} and other.train[0].frames.shape[1] == 12
    jobs.clear()
    prepared(replace(config, seed=5, valid_fraction=0.5))  # another split of the same features
    assert jobs == [] and before.items() < shards(config).items()


def test_half_precision_takes_half_and_comes_back_as_float32(config: TrainConfig) -> None:
    exact, rounded = (
        prepared(config).train[0].frames,
        prepared(replace(config, feature_dtype="float16")).train[0].frames,
    )
    assert rounded.dtype == torch.float32 and torch.equal(rounded, exact.half().float())
    with pytest.raises(ConfigError, match=r"feature_dtype must be one of float32, float16"):
        replace(config, feature_dtype="int8")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"workers must be auto or a whole number from 0, got -1"):
        replace(config, workers=-1)


def test_copies_are_made_of_the_training_side_only(config: TrainConfig) -> None:
    pytest.importorskip("torchaudio")
    data = prepared(replace(config, speed_perturb=(0.9, 1.0)))
    assert len(data.train) == 2 * len(prepared(config).train) and len(data.valid) == len(prepared(config).valid)
    slow, plain = data.train[0], data.train[1]
    assert slow.utterance.id == f"sp0.9-{plain.utterance.id}" and slow.num_frames > plain.num_frames
    assert slow.utterance.num_samples > plain.utterance.num_samples


# Faults of the data


def test_moved_and_copied_data_are_the_same_data(config: TrainConfig, root: Path, jobs: list[str]) -> None:
    first = prepared(config).fingerprints()
    jobs.clear()
    moved = root.rename(root.with_name("moved"))
    config = replace(config, data=str(moved / "LibriSpeech"), alignments=str(moved / "alignments"))
    assert prepared(config).fingerprints() == first and jobs == []
    copy = Path(shutil.copytree(moved, root.with_name("copy"), copy_function=shutil.copyfile))  # another time
    config = replace(config, data=str(copy), alignments=str(copy / "alignments"))
    assert prepared(config).fingerprints() == first
    assert {*jobs} == {"files", "alignments"}, "read to be compared, and no features made"


def _other_sound(root: Path) -> None:
    soundfile.write(wav(root, LAST), np.zeros(4800), 16_000)


def _other_label(root: Path) -> None:
    path = root / "alignments" / "train.phones.ctm"
    path.write_text(path.read_text().replace(f"{LAST} 1 0.1 0.2 AH1", f"{LAST} 1 0.1 0.2 B"))


def _one_less(root: Path) -> None:
    wav(root, LAST).unlink()


@pytest.mark.parametrize("change", [_other_sound, _other_label, _one_less])
def test_a_change_makes_its_own_shard_again(
    config: TrainConfig, root: Path, jobs: list[str], change: Callable[[Path], None]
) -> None:
    first = prepared(config).fingerprints()
    before = shards(config)
    jobs.clear()
    change(root)
    assert prepared(config).fingerprints() != first
    assert jobs.count("shards") == 1 and before.items() < shards(config).items()


def test_a_change_within_the_tick_of_the_clock_is_noticed(config: TrainConfig, root: Path) -> None:
    path = wav(root, LAST)
    _other_sound(root)
    now = path.stat().st_mtime_ns
    first = prepared(config).fingerprints()
    soundfile.write(path, np.full(4800, 0.25), 16_000)
    os.utime(path, ns=(now, now))
    assert prepared(config).fingerprints() != first


def test_data_of_equal_names_sizes_and_times_are_told_apart(config: TrainConfig, root: Path, tmp_path: Path) -> None:
    first = prepared(config).fingerprints()["train"]
    twin = Path(shutil.copytree(root, tmp_path / "twin"))
    for path in [*twin.rglob("*.wav"), *twin.rglob("*.ctm")]:
        before = path.stat()
        path.write_bytes(path.read_bytes().replace(b"AH1", b"EH1"))
        if path.suffix == ".wav":
            soundfile.write(path, np.zeros(4800), 16_000)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = prepared(replace(config, data=str(twin), alignments=str(twin / "alignments"))).fingerprints()["train"]
    assert first["sound"] != second["sound"] and first["labels"] != second["labels"]


def test_other_names_of_classes_are_other_labels(config: TrainConfig, root: Path) -> None:
    folder = root / "alignments"
    (folder / "train.phones.ctm").unlink()
    (folder / "train.frame_labels.txt").write_text("".join(f"{id} {'0 ' * 10}{'1 ' * 18}\n" for id in IDS))
    settle(root)
    found = []
    for name in ("AH", "B"):
        (folder / "classes.txt").write_text(f"0 SIL\n1 {name}\n")
        found.append(prepared(config).fingerprints()["train"]["labels"])
    assert found[0] != found[1]


def test_a_shard_without_any_good_utterance_is_left_out(config: TrainConfig, root: Path) -> None:
    tasks.SHARD_IDS = 1  # an utterance in each shard; the fixture puts the number back
    flac = wav(root, LAST).with_suffix(".flac")
    soundfile.write(flac, np.random.default_rng(0).uniform(-1, 1, 4800), 16_000)
    flac.write_bytes(flac.read_bytes()[:4000])
    wav(root, LAST).unlink()
    settle(root)
    with pytest.warns(AudioWarning, match=rf"1 of 50 utterances \(2\.0%\) cannot be used: {LAST} \(corrupt\)"):
        data = prepared(replace(config, max_bad=0.02))
    assert len(data.train) + len(data.valid) == 49


def test_a_corpus_without_any_good_utterance_has_no_examples(config: TrainConfig, root: Path) -> None:
    test = Path(shutil.copytree(root / "LibriSpeech" / "train" / "10", root / "LibriSpeech" / "test" / "90"))
    for path in test.rglob("*.wav"):
        path.rename(path.with_name(path.name.replace("10-", "90-", 1))).write_text("404")
    ctm = (root / "alignments" / "train.phones.ctm").read_text()
    (root / "alignments" / "test.phones.ctm").write_text(ctm.replace("10-1", "90-1"))
    assert len(prepared(replace(config, test_subsets=("test",), max_bad=1.0)).tests["test"]) == 0


def test_a_cache_that_is_removed_in_use_is_named(config: TrainConfig) -> None:
    train = prepared(config).train
    shutil.rmtree(str(config.cache))
    with pytest.raises(DataError, match=r"safetensors was cut, replaced or removed while in use: start again"):
        train[0].cut(0, 5)


def test_tables_of_two_runs_are_joined(tmp_path: Path) -> None:
    first, second = FileTable(tmp_path / "files"), FileTable(tmp_path / "files")
    for table, name in ((first, "a"), (second, "b")):
        table.add(Path(name), (1, 2, 3), 4, name.encode() * DIGEST_BYTES)
        table.save()
    both = FileTable(tmp_path / "files")
    assert both.get(Path("a"), (1, 2, 3)) == (4, b"a" * DIGEST_BYTES) and both.get(Path("b"), (1, 2, 3)) is not None
    assert both.get(Path("a"), (1, 2, 4)) is None


def test_damage_that_only_decoding_finds_is_remembered_and_counted_as_before(config: TrainConfig, root: Path) -> None:
    data = wav(root, LAST).read_bytes()
    soundfile.write(wav(root, LAST).with_suffix(".flac"), np.random.default_rng(0).uniform(-1, 1, 4800), 16_000)
    wav(root, LAST).unlink()
    flac = wav(root, LAST).with_suffix(".flac")
    flac.write_bytes(flac.read_bytes()[: len(data) // 2])
    settle(root)
    corpus = load_corpus(root, "train", root / "alignments", max_bad=0.02)
    with pytest.warns(AudioWarning) as wanted:
        list(corpus.waveforms())
    config = replace(config, max_bad=0.02)
    for _ in range(2):
        with pytest.warns(AudioWarning) as got:
            found = prepared(config)
        assert str(got[0].message) == str(wanted[0].message)
        assert found.corpora[0].losses() == corpus.losses() and found.corpora[0].summary() == corpus.summary()
        assert len(found.train) + len(found.valid) == 49
    with pytest.raises(DataError, match=rf"1 of 50 utterances \(2\.0%\) cannot be used: {LAST} \(corrupt\)\. max_bad"):
        prepared(replace(config, max_bad=0.0))


def test_a_file_that_changes_while_it_is_read_stops_the_run(
    config: TrainConfig, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = features.FeatureCache.examples

    def late(cache: Any, *given: Any) -> Any:
        _other_sound(root)
        return read(cache, *given)

    monkeypatch.setattr(features.FeatureCache, "examples", late)
    with pytest.raises(DataError, match=rf"{LAST}\.wav changed while the features were made: start again"):
        prepared(config)


# Faults of the disk


@pytest.mark.parametrize("damage", ["cut", "text", "other key", "empty"])
def test_a_damaged_shard_is_named_and_made_again(config: TrainConfig, jobs: list[str], damage: str) -> None:
    first = prepared(config).fingerprints()
    before = shards(config)
    one, two = sorted(Path(str(config.cache)).glob("features/*/*.safetensors"))[:2]
    if damage == "cut":
        one.write_bytes(one.read_bytes()[:-1])
    elif damage == "other key":
        shutil.copyfile(two, one)
    else:
        one.write_bytes(b"404 not found" if damage == "text" else b"")
    jobs.clear()
    with pytest.warns(AudioWarning, match=rf"{one.name} is damaged \(.*\): it is made again") as caught:
        assert prepared(config).fingerprints() == first
    assert len(caught) == 1 and jobs == ["shards"] and shards(config) == before


def test_a_shard_is_compared_with_its_sum_when_it_is_written(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flipped(path: Path, data: bytes) -> str:
        return write_synced(path, data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])

    monkeypatch.setattr(shard, "write_synced", flipped)
    with pytest.raises(UserError, match=r"the cache .* cannot be written \(the disk returns other bytes"):
        prepared(config)
    assert shards(config) == {}


def test_too_little_space_is_reported_before_the_work(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, jobs: list[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=12_345))
    message = r"^the features of train need 63 KB in .*, and 12\.3 KB are free: free .* --cache DIR, or .* float16\..*$"
    with pytest.raises(UserError, match=message) as caught:
        prepared(config)
    assert "\n" not in str(caught.value) and "shards" not in jobs
    with pytest.raises(UserError, match=r"need 33 KB .*--cache DIR\. What is whole is kept\.$"):
        prepared(replace(config, feature_dtype="float16"))


def test_a_full_disk_is_reported_and_what_is_whole_is_kept(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written = []

    def full(path: Path, data: bytes) -> str:
        written.append(path)
        if len(written) > 2:
            path.write_bytes(data[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write_synced(path, data)

    monkeypatch.setattr(shard, "write_synced", full)
    with pytest.raises(UserError, match=r"^the features of train need .* in .*, and .* are free: .*--cache DIR"):
        prepared(config)
    assert len(shards(config)) == 2 and not list(tmp_path.glob("cache/**/*.tmp-*"))
    monkeypatch.setattr(shard, "write_synced", write_synced)
    kept = shards(config)
    prepared(config)
    assert kept.items() < shards(config).items()


def test_a_full_disk_is_reported_for_the_tables_too(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("speechattn.system.atomic_files.write_synced", full)
    with pytest.raises(
        UserError, match=r"^the alignments of train need 4\.5 KB in .*, and .* are free: .*--cache DIR\."
    ):
        prepared(config)


def test_a_cache_that_cannot_be_written_names_the_option(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"the cache .* cannot be written \(.*\): choose another --cache DIR"):
        prepared(replace(config, cache=str(tmp_path / "file")))


# Faults of processes


def test_an_interrupted_preparation_goes_on_and_ends_with_the_same_files(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: list[str]
) -> None:
    prepared(replace(config, cache=str(tmp_path / "other")))
    wanted = shards(replace(config, cache=str(tmp_path / "other")))
    take = shard_set.ShardSet.take
    monkeypatch.setattr(shard_set.ShardSet, "take", lambda self, index: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        prepared(config)
    monkeypatch.setattr(shard_set.ShardSet, "take", take)
    assert len(shards(config)) == 1
    (place,) = {path.parent for path in tmp_path.glob("cache/features/*/*.safetensors")}
    litter = place / "0123.safetensors.tmp-999999999"
    litter.write_bytes(b"half a shard")
    (place / "mine.tmp-note").touch()
    jobs.clear()
    prepared(config)
    assert jobs == ["shards"] * (len(wanted) - 1)
    assert shards(config) == wanted and not litter.exists() and (place / "mine.tmp-note").exists()


def test_two_runs_make_one_cache_and_the_second_waits(
    config: TrainConfig, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prepared(config)
    (lock,) = tmp_path.glob("cache/features/*/.lock")
    whole = shards(config)
    for path in lock.parent.glob("*.safetensors"):
        path.rename(path.with_suffix(".kept"))
    with lock.open("r+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        def finish() -> None:
            while "waiting for it" not in "".join(printed):
                printed.append(capsys.readouterr().out)
                time.sleep(0.05)
            for path in lock.parent.glob("*.kept"):  # the first run has made them
                path.rename(path.with_suffix(".safetensors"))
            fcntl.flock(other, fcntl.LOCK_UN)

        printed: list[str] = []
        thread = threading.Thread(target=finish)
        thread.start()
        monkeypatch.setattr(features.FeatureCache, "_build", None)  # nothing is left to do
        prepared(config)
        thread.join()
    assert f"another run (pid {os.getpid()}) makes the features in {lock.parent}: waiting for it" in "".join(printed)
    assert shards(config) == whole


def test_waiting_for_another_run_ends_with_a_signal(config: TrainConfig, tmp_path: Path) -> None:
    place = tmp_path / "place"
    with StopSignal() as stop, folder.building(place, stop):
        stop.received = signal.SIGTERM
        with pytest.raises(Interrupted), folder.building(place, stop):
            pass


def test_a_worker_that_dies_is_an_error_that_names_its_recordings(
    config: TrainConfig, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = [sys.executable, "-c", "import sys; sys.stdin.readline(); sys.exit(9)"]
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **given: start(program, **given))
    with pytest.raises(
        DataError, match=r"a worker process ended with status 9 while it read 50 recordings, from .*10-1"
    ):
        prepared(replace(config, workers=1))


@pytest.mark.slow
def test_workers_write_what_this_process_would(config: TrainConfig, tmp_path: Path) -> None:
    prepared(config)
    other = replace(config, cache=str(tmp_path / "other"), workers=2)
    assert prepared(other).fingerprints() == prepared(config).fingerprints()
    assert shards(other) == shards(config)
    shutil.rmtree(tmp_path / "other")
    _other_sound(Path(config.data))
    wav(Path(config.data), LAST).write_bytes(wav(Path(config.data), LAST).read_bytes()[:2000])
    with pytest.raises(DataError, match=rf"{LAST} \(truncated\)"):
        prepared(replace(other, max_bad=0.0))


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_and_its_successor_the_same_files(config: TrainConfig, tmp_path: Path) -> None:
    prepared(replace(config, cache=str(tmp_path / "other")))
    settings = replace(config, workers=2).to_dict()
    program = f"""
import os, signal
from speechattn.system.atomic_files import write_synced
from speechattn.system.stop_signal import StopSignal
from speechattn.training.cache import shard_set, tasks
from speechattn.training.config import TrainConfig
from speechattn.training.prepare import prepare
tasks.SHARD_IDS = 8
shard_set.ShardSet.take = lambda self, index: os.kill(os.getpid(), signal.SIGKILL)
with StopSignal() as stop:
    prepare(TrainConfig.from_dict({settings!r}), stop)
"""
    environment = {**os.environ, "MARK": str(tmp_path)}
    started: set[int] = set()
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as run:
        while run.poll() is None:
            started |= set(workers(str(tmp_path)))
            time.sleep(0.1)
    assert run.returncode == -signal.SIGKILL and len(started) > 1
    time.sleep(1)
    assert not list(workers(str(tmp_path)))
    assert 0 < len(shards(config)) < len(shards(replace(config, cache=str(tmp_path / "other"))))
    prepared(config)
    assert shards(config) == shards(replace(config, cache=str(tmp_path / "other")))


def workers(mark: str) -> Iterator[int]:
    """Yield the workers of a cache that are alive and have `mark` in their environment."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            worker = b"speechattn.training.cache.worker" in (process / "cmdline").read_bytes()
            if worker and mark.encode() in (process / "environ").read_bytes():
                yield int(process.name)
        except OSError:
            continue


def test_a_change_to_the_audio_is_said_at_a_warm_start_too(
    config: TrainConfig, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(wav(root, LAST), np.zeros((4800, 2)), 16_000)
    settle(root)
    for _ in range(2):
        monkeypatch.setattr("speechattn.data.audio.files._warned", set())
        with pytest.warns(AudioWarning, match=rf"{LAST}\.wav: 2 channels are averaged to one\. Shown once\."):
            prepared(config)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared(config)

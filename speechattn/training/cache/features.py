"""The cache of one run: headers, alignments and features are read from it, and made where they are missing."""

from __future__ import annotations

import hashlib
import json
import posixpath
import time
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from speechattn.data.audio.errors import AudioError, AudioWarning
from speechattn.data.audio.files import show_changes
from speechattn.data.labelled_corpus import Corpus, LabelledUtterance
from speechattn.data.labels.alignment_table import AlignmentTable
from speechattn.data.labels.alignments import alignment_files, load_alignments
from speechattn.data.labels.classes import label_class
from speechattn.data.labels.segment_arrays import SegmentSlice
from speechattn.data.labels.segments import Alignment
from speechattn.errors import DataError
from speechattn.system.atomic_files import write_json
from speechattn.system.progress import progress_bar
from speechattn.system.stop_signal import StopSignal
from speechattn.system.units import format_bytes
from speechattn.training.cache.build import ShardSettings, code_digest
from speechattn.training.cache.file_table import SETTLED_S, FileTable, file_times
from speechattn.training.cache.folder import FULL, building, cannot_write, check_space, no_space
from speechattn.training.cache.pool import choose_workers, run_jobs
from speechattn.training.cache.shard import Shard, ShardDamageError, open_shard
from speechattn.training.cache.stored_examples import StoredExamples

SHARD_IDS = 64
"""A shard has about so many utterances."""
SHARD_S = 1800.0
"""And at most so many seconds, unless one recording is longer: a worker holds them in memory."""
FILES_PER_TASK = 100
READ_FILES_PER_S, FEATURE_SPEED = 500, 300
"""What one process does in a second: headers and sums of files, and seconds of audio to features."""
LABEL_BYTES = 2
PASSING = frozenset({"missing", "unreadable", "too long"})
"""Reasons that may hold no longer at the next start: a shard with one of them is made again."""


@dataclass(frozen=True)
class _Task:
    """A shard that is wanted: its key and place, and its utterances in the order of the corpus."""

    key: str
    path: Path
    items: Sequence[LabelledUtterance]
    seconds: float


class FeatureCache:
    """The cache in `folder`/features, read and filled by one run.

    Args:
        folder: for everything that can be made again.
        workers: processes that fill it; "auto" takes this process for little.
        stop: polled while it is filled.
    """

    def __init__(self, folder: Path, workers: int | Literal["auto"] = "auto", stop: StopSignal | None = None) -> None:
        self.folder = folder / "features"
        self.workers, self.stop = workers, stop
        self._digests: dict[Path, bytes] = {}
        self._times: dict[Path, tuple[int, int]] = {}
        self._alignments: dict[str, Path] = {}

    # Headers

    def headers(self, paths: Sequence[Path], sample_rate: int) -> Iterator[int | AudioError]:
        """Return the samples of each file at `sample_rate`, or its fault: a `HeaderReader` that remembers."""
        table = FileTable(self.folder / f"files-{_digest([sample_rate, code_digest()])}.safetensors")
        times = file_times(paths)
        rows: dict[Path, dict[str, Any]] = {}
        unknown = []
        for path, (size, mtime_ns) in zip(paths, times.tolist(), strict=True):
            known = table.get(path, size, mtime_ns)
            if known is None:
                unknown.append(path)
            else:
                self._keep(path, size, mtime_ns, known[1])
                rows[path] = {"samples": known[0]}
        groups = [unknown[i : i + FILES_PER_TASK] for i in range(0, len(unknown), FILES_PER_TASK)]
        tasks = [{"paths": [str(path) for path in group]} for group in groups]
        workers = choose_workers(self.workers, len(unknown) / READ_FILES_PER_S)
        with progress_bar(total=len(unknown), desc="headers", unit="file", leave=False, disable=not unknown) as bar:
            for index, found in run_jobs("files", {"sample_rate": sample_rate}, tasks, workers, self.stop):
                for path, row in zip(groups[index], found, strict=True):
                    rows[path] = row
                    if "samples" in row:
                        digest = bytes.fromhex(row["sha256"])
                        self._keep(path, row["size"], row["mtime_ns"], digest)
                        table.add(path, row["size"], row["mtime_ns"], row["samples"], digest)
                bar.update(len(found))
        if table.changed:
            self._write(table.save, table.num_bytes, "the headers of sound files")
        for path in paths:
            row = rows[path]
            yield row["samples"] if "samples" in row else AudioError(row["found"], path, row["reason"])

    def digest(self, path: Path) -> bytes:
        """Return the sha256 of a file whose header was read."""
        return self._digests[path]

    def _keep(self, path: Path, size: int, mtime_ns: int, digest: bytes) -> None:
        self._digests[path], self._times[path] = digest, (size, mtime_ns)

    # Alignments

    def alignments(
        self,
        source: str | Path,
        subset: str,
        classes: Sequence[str] | None,
        damaged: dict[str, str] | None = None,
    ) -> Mapping[str, Alignment]:
        """Return `load_alignments`, from the cache if its files have not changed: an `AlignmentReader`."""
        files = alignment_files(source, subset, classes)
        times = file_times(files)
        base = Path(source) if Path(source).is_dir() else Path(source).parent
        names = [path.relative_to(base).as_posix() for path in files]
        wanted = [posixpath.normpath(subset), classes, code_digest(), list(zip(names, times.tolist(), strict=True))]
        recent = [path for path, time in zip(files, times, strict=True) if _is_recent(int(time[1]))]
        wanted.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in recent])
        path = self.folder / f"labels-{_digest(wanted)}.safetensors"
        table = AlignmentTable.load(path)
        if table is None:
            found: dict[str, str] = {}
            parsed = AlignmentTable.of(load_alignments(source, subset, classes, found), found)
            self._write(lambda: parsed.save(path), parsed.num_bytes, f"the alignments of {subset}")
            table = AlignmentTable.load(path) or parsed
        self._alignments[subset] = path
        if damaged is not None:
            damaged.update(table.damaged)
        return table

    # Features

    def examples(
        self, corpus: Corpus, settings: ShardSettings, copied: Collection[str] = frozenset()
    ) -> StoredExamples:
        """Return frames and labels of all utterances that decode, and of the copies of those in `copied`.

        Utterances that do not decode are moved to `corpus.skipped`.

        Raises:
            DataError: too many do not decode, or labels cannot be labels of frames.
            UserError: the cache cannot be written.
        """
        alignments = None if corpus.detect else str(self._alignments[corpus.subset].resolve())
        settings = replace(settings, subset=corpus.subset, alignments=alignments)
        folder = (self.folder / _digest(settings.key())).resolve()
        shards = _ShardSet(corpus, _tasks(corpus, settings, folder, copied, self._digests))
        if shards.open():
            with building(folder, self.stop):
                if shards.open(warn=True):  # another run may have made them
                    self._build(shards, settings, folder, copied)
        shards.finish()
        digests = [self._digests[item.utterance.path] for item in shards.items]
        return StoredExamples.of(shards.items, digests, [shard for shard in shards.opened if shard], shards.bases)

    def _build(self, shards: _ShardSet, settings: ShardSettings, folder: Path, copied: Collection[str]) -> None:
        """Make the shards that are missing."""
        missing = list(shards.missing)
        what = f"the features of {settings.subset}"
        needed = sum(_num_bytes(shards.tasks[index].items, settings, copied) for index in missing)
        smaller = settings.dtype == "float32"
        check_space(folder, needed, what, smaller)
        wanted = [self._job(shards.tasks[index], copied) for index in missing]
        seconds = sum(shards.tasks[index].seconds for index in missing)
        workers = choose_workers(self.workers, seconds / FEATURE_SPEED)
        written = 0
        try:
            write_json(folder / "settings.json", settings.key())
            with progress_bar(
                total=sum(len(shards.tasks[index].items) for index in missing),
                desc=f"frames of {settings.subset}",
                unit="utt",
                leave=False,
            ) as bar:
                for done, result in run_jobs("shards", asdict(settings), wanted, workers, self.stop):
                    shards.take(missing[done])
                    written += result["bytes"]
                    bar.update(len(shards.tasks[missing[done]].items))
        except OSError as error:
            if error.errno in FULL:
                raise no_space(folder, needed - written, what, smaller) from error
            raise cannot_write(folder, error) from error
        print(f"{what}: {format_bytes(written)} written to {folder}")

    def _job(self, task: _Task, copied: Collection[str]) -> dict[str, Any]:
        rows = []
        for item in task.items:
            path = item.utterance.path
            times = self._times[path]
            rows.append([item.id, item.speaker, str(path), item.num_samples, *times, item.id in copied])
        return {"path": str(task.path), "key": task.key, "utterances": rows}

    def _write(self, save: Callable[[], object], needed: int, what: str) -> None:
        """Write a table while no other run does; the holder of the lock removes what killed runs left."""
        with building(self.folder, self.stop):
            try:
                save()
            except OSError as error:
                if error.errno in FULL:
                    raise no_space(self.folder, needed, what) from error
                raise cannot_write(self.folder, error) from error


class _ShardSet:
    """The shards of a corpus, opened as they become available; faults are counted in the order of the corpus."""

    def __init__(self, corpus: Corpus, tasks: Sequence[_Task]) -> None:
        self.corpus, self.tasks = corpus, tasks
        self.items = corpus.utterances  # before faults are taken out
        self.bases = np.cumsum([0, *(len(task.items) for task in tasks)])[:-1].tolist()
        self.opened: list[Shard | None] = [None] * len(tasks)
        self._counted = 0
        self._faults = 0
        self._changes: dict[str, str] = {}

    @property
    def missing(self) -> Iterator[int]:
        """Indices of shards that are not open."""
        return (index for index, shard in enumerate(self.opened) if shard is None)

    def open(self, warn: bool = False) -> bool:
        """Open what is there; return whether anything is missing. Damaged shards are named in a warning on request."""
        for index in self.missing:
            task = self.tasks[index]
            try:
                shard = open_shard(task.path, task.key)
            except ShardDamageError as damage:
                if warn:
                    warnings.warn(f"{task.path} is damaged ({damage}): it is made again.", AudioWarning, stacklevel=4)
                continue
            if shard is not None and not any(reason in PASSING for _, reason, _ in shard.faults):
                self.opened[index] = shard
        self._count()
        return any(True for _ in self.missing)

    def take(self, index: int) -> None:
        """Open a shard that was just written."""
        self.opened[index] = open_shard(self.tasks[index].path, self.tasks[index].key)
        self._count()

    def finish(self) -> None:
        """Warn of utterances that do not decode and of changes to the audio."""
        show_changes(self._changes)
        if self._faults:
            self.corpus.warn_left_out()

    def _count(self) -> None:
        """Leave out what does not decode, shard by shard in their order, so that messages name the first ones.

        Raises:
            DataError: it is too much.
        """
        while self._counted < len(self.tasks) and (shard := self.opened[self._counted]) is not None:
            for place, reason, found in shard.faults:
                item = self.tasks[self._counted].items[place]
                self._faults += 1
                self.corpus.leave_out(item.id, AudioError(found, item.utterance.path, reason))
            self._changes = {**shard.changes, **self._changes}
            self._counted += 1


def _tasks(
    corpus: Corpus, settings: ShardSettings, folder: Path, copied: Collection[str], digests: Mapping[Path, bytes]
) -> list[_Task]:
    """Return the shards of a corpus: consecutive utterances, cut where a hash of the id says so.

    An utterance more or less changes its own shard only. The key of a shard says what is in it: ids, samples, sound,
    segments, and which utterances are copied.
    """
    tasks: list[_Task] = []
    group: list[LabelledUtterance] = []
    seconds = 0.0
    indices = _ClassIndices(settings.classes)

    def finish() -> None:
        if group:
            key = _contents(group, copied, digests, indices)
            tasks.append(_Task(key, folder / f"{key}.safetensors", list(group), seconds))

    for item in corpus.utterances:
        length = item.num_samples / corpus.sample_rate
        length *= settings.copies_per_utterance if item.id in copied else 1
        starts = zlib.crc32(item.id.encode("utf-8", "surrogateescape")) % SHARD_IDS == 0
        if starts or seconds + length > SHARD_S:
            finish()
            group, seconds = [], 0.0
        group.append(item)
        seconds += length
    finish()
    return tasks


class _ClassIndices:
    """The class index of each label of a slice; the names of a table are looked up once."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self._classes = classes
        self._last: tuple[object, NDArray[np.int32]] | None = None

    def __call__(self, segments: SegmentSlice) -> NDArray[np.int32]:
        """Return the class indices [S], -1 for a label that is no class."""
        if self._last is None or self._last[0] is not segments.table:
            self._last = segments.table, np.array(list(map(self._index, segments.table.names)), np.int32)
        indices: NDArray[np.int32] = self._last[1][segments.labels] if len(segments) else self._last[1][:0]
        return indices

    def _index(self, name: str) -> int:
        try:
            return self._classes.index(label_class(name, self._classes))
        except DataError:
            return -1


def _contents(
    items: Sequence[LabelledUtterance],
    copied: Collection[str],
    digests: Mapping[Path, bytes],
    indices: _ClassIndices,
) -> str:
    """Return a digest of what decides the contents of a shard besides its settings."""
    digest = hashlib.sha256()
    for item in items:
        segments = SegmentSlice.of(item.segments)
        head = f"{item.id} {item.num_samples} {len(segments)} {item.id in copied}\n"
        digest.update(head.encode("utf-8", "surrogateescape"))
        digest.update(digests[item.utterance.path])
        for column in (segments.starts_s, segments.stops_s, indices(segments)):
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:24]


def _num_bytes(items: Sequence[LabelledUtterance], settings: ShardSettings, copied: Collection[str]) -> int:
    """Return about how many bytes the examples of `items` take on the disk."""
    frontend = settings.frontend()
    frame = frontend.num_features * np.dtype(settings.dtype).itemsize + LABEL_BYTES
    copies = sum(1 / speed for speed in settings.speeds) * (1 if settings.noise is None else 2)
    frames = ((copies if item.id in copied else 1) * frontend.framing.num_frames(item.num_samples) for item in items)
    return round(frame * sum(frames))


def _is_recent(mtime_ns: int) -> bool:
    return mtime_ns > (time.time() - SETTLED_S) * 1e9


def _digest(wanted: Any) -> str:
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]

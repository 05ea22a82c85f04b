"""The cache of one run: headers, alignments and features are read from it, and made where they are missing."""

from __future__ import annotations

import hashlib
import json
import posixpath
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from speechattn.data.audio.errors import AudioError
from speechattn.data.labelled_corpus import Corpus, LabelledUtterance
from speechattn.data.labels.alignment_table import AlignmentTable
from speechattn.data.labels.alignments import alignment_inputs, load_alignments
from speechattn.data.labels.segments import Alignment
from speechattn.system.atomic_files import write_json
from speechattn.system.progress import progress_bar
from speechattn.system.stop_signal import StopSignal
from speechattn.system.units import format_bytes
from speechattn.training.cache.build import ShardSettings, code_digest
from speechattn.training.cache.file_table import SETTLED_S, FileTable, Stamp, file_stamps
from speechattn.training.cache.folder import FULL, building, cannot_write, check_space, no_space
from speechattn.training.cache.pool import choose_workers, run_jobs
from speechattn.training.cache.shard_set import ShardSet
from speechattn.training.cache.stored_examples import StoredExamples
from speechattn.training.cache.tasks import Task, shard_tasks

FILES_PER_TASK = 100
READ_FILES_PER_S, FEATURE_SPEED = 500, 300
"""What one process does in a second: headers and sums of files, and seconds of audio to features."""
LABEL_BYTES = 2


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
        self._stamps: dict[Path, Stamp] = {}
        self._alignments: dict[str, Path] = {}

    # Headers

    def headers(self, paths: Sequence[Path], sample_rate: int) -> Iterator[int | AudioError]:
        """Return the samples of each file at `sample_rate`, or its fault: a `HeaderReader` that remembers."""
        table = FileTable(self.folder / f"files-{_digest([sample_rate, code_digest()])}.safetensors")
        rows: dict[Path, dict[str, Any]] = {}
        unknown = []
        for path, stamp in zip(paths, file_stamps(paths), strict=True):
            known = table.get(path, stamp)
            if known is None:
                unknown.append(path)
            else:
                self._digests[path], self._stamps[path] = known[1], stamp
                rows[path] = {"samples": known[0]}
        groups = [unknown[i : i + FILES_PER_TASK] for i in range(0, len(unknown), FILES_PER_TASK)]
        tasks = [{"paths": [str(path) for path in group]} for group in groups]
        workers = choose_workers(self.workers, len(unknown) / READ_FILES_PER_S)
        with progress_bar(total=len(unknown), desc="headers", unit="file", leave=False, disable=not unknown) as bar:
            for index, found in run_jobs("files", {"sample_rate": sample_rate}, tasks, workers, self.stop):
                for path, row in zip(groups[index], found, strict=True):
                    rows[path] = row
                    if "samples" in row:
                        digest, stamp = bytes.fromhex(row["sha256"]), tuple(row["stamp"])
                        self._digests[path], self._stamps[path] = digest, stamp
                        table.add(path, stamp, row["samples"], digest)
                bar.update(len(found))
        if table.changed:
            self._write(table.save, table.num_bytes, "the headers of sound files")
        for path in paths:
            row = rows[path]
            yield row["samples"] if "samples" in row else AudioError(row["found"], path, row["reason"])

    def digest(self, path: Path) -> bytes:
        """Return the sha256 of a file whose header was read."""
        return self._digests[path]

    # Alignments

    def alignments(
        self,
        source: str | Path,
        subset: str,
        classes: Sequence[str] | None,
        damaged: dict[str, str] | None = None,
    ) -> Mapping[str, Alignment]:
        """Return `load_alignments`, from the cache if its files have not changed: an `AlignmentReader`."""
        files = alignment_inputs(source, subset, classes)
        stamps = file_stamps(files)
        base = Path(source) if Path(source).is_dir() else Path(source).parent
        names = [path.relative_to(base).as_posix() for path in files]
        wanted = [posixpath.normpath(subset), classes, code_digest(), list(zip(names, stamps, strict=True))]
        recent = [path for path, stamp in zip(files, stamps, strict=True) if _is_recent(stamp[1])]
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
        aligned = bool(settings.classes) and not corpus.detect
        alignments = str(self._alignments[corpus.subset].resolve()) if aligned else None
        settings = replace(settings, subset=corpus.subset, alignments=alignments)
        folder = (self.folder / _digest(settings.key())).resolve()
        shards = ShardSet(corpus, shard_tasks(corpus, settings, folder, copied, self._digests))
        if shards.open():
            with building(folder, self.stop):
                if shards.open(warn=True):  # another run may have made them
                    self._build(shards, settings, folder, copied)
        shards.finish()
        digests = [self._digests[item.utterance.path] for item in shards.items]
        return StoredExamples.of(
            shards.items, digests, [shard for shard in shards.opened if shard is not None], shards.bases
        )

    def _build(self, shards: ShardSet, settings: ShardSettings, folder: Path, copied: Collection[str]) -> None:
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

    def _job(self, task: Task, copied: Collection[str]) -> dict[str, Any]:
        rows = []
        for item in task.items:
            path = item.utterance.path
            size, mtime_ns, _ = self._stamps[path]
            rows.append([item.id, item.speaker, str(path), item.num_samples, size, mtime_ns, item.id in copied])
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

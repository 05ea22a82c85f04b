"""The contents of a shard, computed from sound files and alignments in one process."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from speechattn.augment.noise import NoiseFolder
from speechattn.data.audio.errors import AudioError
from speechattn.data.audio.files import collected_changes
from speechattn.data.labelled_corpus import LabelledUtterance, labelled_waveform
from speechattn.data.labels.alignment_table import AlignmentTable
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segment_arrays import SegmentSlice
from speechattn.data.labels.segments import IGNORE, Utterance
from speechattn.errors import DataError
from speechattn.framing import Framing
from speechattn.frontend.factory import build_frontend
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.normalize import moments
from speechattn.training.cache.shard import Fault, write_shard
from speechattn.training.perturbed_copies import Copies

CODE = ("augment", "data/audio", "data/labels", "frontend", "training/cache")
"""Folders whose files decide what is in a shard; and FILES."""
FILES = ("framing.py", "data/labelled_corpus.py", "training/perturbed_copies.py")
LIBRARIES = ("torch", "numpy", "soundfile", "soxr")


@dataclass(frozen=True)
class ShardSettings:
    """What the contents of a shard depend on besides its utterances; plain types, which a worker gets as JSON."""

    features: str
    num_mels: int
    flavor: str
    num_ceps: int
    deltas: int
    dtype: str
    """float32 or float16."""
    classes: tuple[str, ...]
    """Of the labels of frames; without any all labels are -100."""
    subset: str = ""
    """For messages."""
    alignments: str | None = None
    """File of an AlignmentTable; None: speech is detected, if there are classes."""
    speeds: tuple[float, ...] = (1.0,)
    noise: str | None = None
    noise_snr_db: tuple[float, float] = (0.0, 0.0)
    seed: int = 0
    sample_rate: int = Framing().sample_rate
    """Of the waveforms, in Hz."""

    def frontend(self) -> LogMel:
        """Return the frontend."""
        return build_frontend(
            self.features,
            self.num_mels,
            Framing(sample_rate=self.sample_rate),
            flavor=self.flavor,
            num_ceps=self.num_ceps,
            deltas=self.deltas,
        )

    @property
    def copies_per_utterance(self) -> int:
        """Examples that a training utterance becomes."""
        return len(self.speeds) * (1 if self.noise is None else 2)

    def key(self) -> dict[str, Any]:
        """Return what two equal shards have in common, code and libraries included; places of files are left out."""
        wanted = {**asdict(self), "subset": None, "alignments": self.alignments is not None, "noise": None}
        if self.noise is not None:  # a file of noise is known by its name, size and time
            folder = NoiseFolder(self.noise)
            paths = [folder.folder / name for name in folder.sizes]
            times = [(path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
            wanted["noise"] = list(zip(folder.sizes, times, strict=True))
        else:
            wanted |= {"noise_snr_db": None, "seed": None}
        return {**wanted, "code": code_digest(), "libraries": library_versions()}


@cache
def code_digest() -> str:
    """Return a digest of the code that makes shards, so that a change of the code makes new ones."""
    root = Path(__file__).parents[2]
    paths = [path for folder in CODE for path in (root / folder).rglob("*.py")] + [root / name for name in FILES]
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries, and the processor's kind, on which the last digits depend."""
    found = {name: metadata.version(name) for name in LIBRARIES}
    return {**found, "libsndfile": soundfile.__libsndfile_version__, "machine": platform.machine()}


class ShardBuilder:
    """Writer of shards with the same settings: loads alignments and frontend once.

    Args:
        settings: of all shards.
        poll: called before each utterance.
    """

    def __init__(self, settings: ShardSettings, poll: Callable[[], object] = lambda: None) -> None:
        self.settings, self.poll = settings, poll
        self.frontend = settings.frontend()
        self.rate = self.frontend.framing.sample_rate
        self.alignments = None
        if settings.alignments is not None:
            self.alignments = AlignmentTable.load(Path(settings.alignments))
            if self.alignments is None:
                raise DataError(f"{settings.alignments} disappeared or is damaged: start again.")
        noise = None if settings.noise is None else NoiseFolder(settings.noise, self.rate)
        self.copies = Copies(settings.speeds, noise, settings.noise_snr_db, settings.seed, (), self.rate)

    def build(self, task: dict[str, Any]) -> dict[str, Any]:
        """Write the shard of a task (see features.py) and return its size in bytes.

        Raises:
            DataError: labels cannot be labels of frames, or a file changed after its header was read.
            OSError: the shard cannot be written.
        """
        ids, samples, sources, frames, labels, sums = [], [], [], [], [], []
        faults: list[Fault] = []
        framing = self.frontend.framing
        with collected_changes() as changes, torch.no_grad():
            for place, row in enumerate(task["utterances"]):
                self.poll()
                id, speaker, path, num_samples, size, mtime_ns, copied = row
                item = LabelledUtterance(
                    Utterance(id, speaker, Path(path)), num_samples, self._segments(id, num_samples)
                )
                try:
                    pair = labelled_waveform(item, self.rate, bool(self.settings.classes) and self.alignments is None)
                except AudioError as error:
                    faults.append((place, error.reason, str(error)))
                    continue
                status = Path(path).stat()
                if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
                    raise DataError(f"{path} changed while the features were made: start again.")
                for labelled, waveform in self.copies([pair]) if copied else [pair]:
                    found, _ = self.frontend(waveform[None])
                    found = found[0].to(getattr(torch, self.settings.dtype))
                    try:
                        targets = frame_labels(labelled.segments, len(waveform), framing, self.settings.classes)
                    except DataError as error:
                        raise DataError(f"{self.settings.subset}: utterance {labelled.id}: {error}") from error
                    if len(targets) != len(found):
                        raise AssertionError(f"{labelled.id}: {len(found)} frames but {len(targets)} labels")
                    ids.append(labelled.id)
                    samples.append(labelled.num_samples)
                    sources.append(place)
                    frames.append(found.numpy())
                    labels.append(targets.numpy())
                    sums.append(moments(found))
        width = self.frontend.num_features
        kind = np.int16 if len(self.settings.classes) <= np.iinfo(np.int16).max else np.int32
        columns = {
            "frames": np.concatenate([np.zeros((0, width), self.settings.dtype), *frames]),
            "labels": np.concatenate([np.full(0, IGNORE), *labels]).astype(kind),
            "edges": np.cumsum([0, *map(len, frames)], dtype=np.int64),
            "samples": np.array(samples, np.int64),
            "sources": np.array(sources, np.int32),
            "means": _rows([mean for _, mean, _ in sums], width),
            "squares": _rows([squares for _, _, squares in sums], width),
            "ids": np.frombuffer("\n".join(ids).encode("utf-8", "surrogateescape"), np.uint8),
        }
        write_shard(Path(task["path"]), task["key"], columns, faults, changes)
        return {"bytes": sum(column.nbytes for column in columns.values())}

    def _segments(self, id: str, num_samples: int) -> SegmentSlice:
        if self.alignments is None:
            return SegmentSlice.of([])
        return SegmentSlice.of(self.alignments[id].over(num_samples / self.rate))


def _rows(vectors: Sequence[torch.Tensor], width: int) -> np.ndarray[Any, Any]:
    return np.stack([vector.numpy() for vector in vectors]) if vectors else np.zeros((0, width))

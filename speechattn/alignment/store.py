"""What an alignment keeps on disk: the acoustic model of each finished round, and finished alignments in parts.

    round-<n>/    the model as `SpeechModel.save` writes it, and prior.json, written last, with the sum of the weights
    part-<n>.json the alignments and exclusions of PART_UTTERANCES utterances, in the order of the corpus

Every file appears whole or not at all. One that is damaged is made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechattn.alignment.times import AlignedUtterance
from speechattn.data.labels.segments import Segment
from speechattn.errors import DataError, UserError
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.atomic_files import free_space, to_json, write_bytes, write_json
from speechattn.system.serialization import parse_json

PART_UTTERANCES = 256
"""Utterances of one part: some minutes of audio."""

_WEIGHTS, _PRIOR = "model.safetensors", "prior.json"


@dataclass(frozen=True)
class Part:
    """Alignments of some utterances by id, and the reasons why others have none."""

    aligned: dict[str, AlignedUtterance]
    excluded: dict[str, str]


def save_round(folder: Path, model: SpeechModel, prior: Tensor) -> None:
    """Write the model and the log prior [C] of a finished round into `folder`.

    Raises:
        UserError: the folder cannot be written.
    """
    with writing(folder):
        model.save(folder)
        write_json(folder / _PRIOR, {"sha256": _digest(folder / _WEIGHTS), "log_prior": prior.tolist()})


def load_round(folder: Path) -> tuple[SpeechModel, Tensor] | None:
    """Return what `save_round` wrote, None if it is absent, incomplete or damaged."""
    try:
        written = parse_json((folder / _PRIOR).read_bytes())
        if written["sha256"] != _digest(folder / _WEIGHTS):
            return None
        return load(folder), torch.tensor(written["log_prior"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise UserError, with the free space and how to continue, if `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}), {free_space(path.parent)} free. Finished rounds "
            "and parts are kept: free some space, then run the same command again."
        ) from error


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_part(path: Path, part: Part) -> None:
    """Write one part.

    Raises:
        UserError: the file cannot be written.
    """
    aligned = {id: [_rows(each.phones), _rows(each.words), each.score] for id, each in part.aligned.items()}
    text = to_json([aligned, part.excluded])
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, f"{digest}\n{text}\n".encode("utf-8", "surrogateescape"))


def load_part(path: Path) -> Part | None:
    """Return what `save_part` wrote, None if it is absent or damaged."""
    try:
        digest, _, data = path.read_bytes().partition(b"\n")
        if hashlib.sha256(data.removesuffix(b"\n")).hexdigest() != digest.decode():
            return None
        aligned, excluded = parse_json(data.decode("utf-8", "surrogateescape"))
    except (OSError, ValueError):
        return None
    return Part({id: AlignedUtterance(id, *_read(row)) for id, row in aligned.items()}, excluded)


def _rows(segments: Sequence[Segment]) -> list[list[Any]]:
    return [[segment.start_s, segment.stop_s, segment.label] for segment in segments]


def _read(row: Sequence[Any]) -> tuple[list[Segment], list[Segment], float]:
    phones, words, score = row
    return [Segment(*each) for each in phones], [Segment(*each) for each in words], score


class AlignedParts(Mapping[str, AlignedUtterance]):
    """The alignments of all parts by id, in the order of the corpus, read when needed: one part is in memory.

    `parts` has, for each file, the ids that it holds.
    """

    def __init__(self, parts: Mapping[Path, Sequence[str]]) -> None:
        self._paths = {id: path for path, ids in parts.items() for id in ids}
        self._open: tuple[Path, Part] | None = None

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __getitem__(self, id: str) -> AlignedUtterance:
        path = self._paths[id]
        if self._open is None or self._open[0] != path:
            part = load_part(path)
            if part is None:
                raise DataError(f"{path} was changed while it was read: align again.")
            self._open = path, part
        return self._open[1].aligned[id]

"""Cross-validation: one run a fold, each with other held-out recordings, and the table of all of them.

With classes as labels a fold holds out one speaker (leave-one-speaker-out): every recording is scored once, by a model
that has not seen its speaker. With speakers as labels a fold is another random split of the utterances.

The folder of a cross-validation, which the same command continues:

    fold-<name>/                  a run, as training/run.py describes it
    cross_validation.json         settings, folds, means, machine, commit
    cross_validation.md           the table
    confusion.png                 the recordings of all folds, first encoder
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speechattn.data.class_folder import ClassFolder
from speechattn.errors import DataError, UserError
from speechattn.plots.confusion import confusion
from speechattn.system.atomic_files import write_bytes, write_json
from speechattn.system.stop_signal import StopSignal
from speechattn.training.config import TrainConfig
from speechattn.training.provenance import format_machine, provenance
from speechattn.training.run_folder import check_settings, make_folder

NUM_SPLITS = 5
"""Folds of a model of speakers."""


class Fold(NamedTuple):
    """A part of a cross-validation: its name, for the table, and the settings of its run."""

    name: str
    config: TrainConfig


@dataclass(frozen=True)
class CrossValidation:
    """The results of all folds: for each encoder its accuracy in each fold, and the recordings that were scored.

    `accuracy` is the share of all recordings, `mean` and `std` are those of the folds' accuracies; they differ where
    folds have different sizes.
    """

    folds: tuple[str, ...]
    utterances: tuple[int, ...]
    accuracies: dict[str, tuple[float, ...]]
    confusions: dict[str, list[list[int]]]
    classes: tuple[str, ...]
    parameters: dict[str, int]
    seconds: dict[str, float]

    @classmethod
    def of(cls, folds: Sequence[str], results: Sequence[Sequence[dict[str, Any]]]) -> CrossValidation:
        """Return the summary of the `results.json` of each fold.

        Examples:
            >>> row = {"encoder": "mlp", "accuracy": 0.5, "utterances": 2, "per_class": {"no": [1, 1], "yes": [0, 1]},
            ...        "confusion": [[1, 0], [1, 0]], "parameters": 9, "seconds": 1.0}
            >>> both = CrossValidation.of(["ann", "bob"], [[row], [{**row, "accuracy": 1.0}]])
            >>> both.mean("mlp"), both.confusions["mlp"]
            (0.75, [[2, 0], [2, 0]])
        """
        by_encoder = {row["encoder"]: [_row(rows, row["encoder"]) for rows in results] for row in results[0]}
        first = next(iter(by_encoder.values()))
        return cls(
            tuple(folds),
            tuple(int(row["utterances"]) for row in first),
            {name: tuple(float(row["accuracy"]) for row in rows) for name, rows in by_encoder.items()},
            {name: np.sum([row["confusion"] for row in rows], 0).tolist() for name, rows in by_encoder.items()},
            tuple(first[0]["per_class"]),
            {name: int(rows[0]["parameters"]) for name, rows in by_encoder.items()},
            {name: sum(float(row["seconds"]) for row in rows) for name, rows in by_encoder.items()},
        )

    def mean(self, encoder: str) -> float:
        """Return the mean accuracy of the folds."""
        return statistics.fmean(self.accuracies[encoder])

    def std(self, encoder: str) -> float:
        """Return the standard deviation of the folds' accuracies, 0 for one fold."""
        values = self.accuracies[encoder]
        return statistics.stdev(values) if len(values) > 1 else 0.0

    def majority(self) -> float:
        """Return the share of the most frequent class of the scored recordings."""
        counts = np.sum(next(iter(self.confusions.values())), 1)
        return float(counts.max() / counts.sum())

    def rows(self) -> list[list[str]]:
        """Return header and rows of the table as text, one row an encoder, last the two baselines without a model."""
        sizes = zip(self.folds, self.utterances, strict=True)
        header = ["encoder", "mean", "std", *(f"{name} ({size})" for name, size in sizes), "parameters", "s"]
        rows = [
            [
                name,
                f"{self.mean(name):.4f}",
                f"{self.std(name):.4f}",
                *(f"{value:.4f}" for value in values),
                f"{self.parameters[name]:,}",
                f"{self.seconds[name]:,.0f}",
            ]
            for name, values in self.accuracies.items()
        ]
        empty = [""] * (len(header) - 2)
        floors = [["most frequent class", f"{self.majority():.4f}", *empty]]
        return [header, *rows, *floors, ["chance", f"{1 / len(self.classes):.4f}", *empty]]


def make_folds(config: TrainConfig, num_splits: int = NUM_SPLITS) -> list[Fold]:
    """Return the folds of a run: one for each speaker, or for labels speakers `num_splits` splits of the utterances.

    Raises:
        UserError: the task is not utterance, or the run names validation speakers of its own.
        DataError: the recordings have fewer than two speakers.
    """
    if config.task != "utterance":
        raise UserError(f"cross-validation is for --task utterance, got {config.task}.")
    if config.valid_speakers:
        raise UserError("--valid-speakers has no effect: cross-validation holds out each speaker in turn.")
    out = Path(config.out)
    if config.labels == "speakers":
        splits = range(num_splits)
        return [Fold(f"split {i}", replace(config, split_seed=i, out=str(out / f"fold-{i}"))) for i in splits]
    folder = ClassFolder(Path(config.data) / config.subset, config.layout)
    names = [name for name in folder.speakers if not config.speakers or name in config.speakers]
    if len(names) < 2:
        raise DataError(
            f"leave-one-speaker-out needs two speakers or more, and {folder.folder} has {len(names)} by the layout "
            f"{folder.template.text!r}. Give a layout with {{speaker}}, or train once with --split utterances."
        )
    places = [re.sub(r"[^\w.-]", "_", name) for name in names]
    if len(set(places)) < len(places):  # names that differ only in signs that a folder cannot have
        places = [f"{index}-{place}" for index, place in enumerate(places)]
    return [
        Fold(name, replace(config, valid_speakers=(name,), out=str(out / f"fold-{place}")))
        for name, place in zip(names, places, strict=True)
    ]


def cross_validate(config: TrainConfig, num_splits: int = NUM_SPLITS, restart: bool = False) -> CrossValidation:
    """Train and score every fold that is not done, and write table, JSON and picture into `config.out`.

    Raises:
        UserError: a fold has results of other settings; see also `make_folds`.
        Interrupted: a signal came; the same command continues.
    """
    from speechattn.training.run import run

    began = time.time()
    out, folds = Path(config.out), make_folds(config, num_splits)
    make_folder(out)
    results = []
    with StopSignal() as stop:  # a signal that comes while a fold writes its report
        for number, fold in enumerate(folds, start=1):
            print(f"fold {number} of {len(folds)}: {fold.name}")
            file = Path(fold.config.out) / "results.json"
            if restart or not file.exists() or not _is_done(fold):
                run(fold.config, restart)
            results.append(json.loads(file.read_text()))
            stop.poll()
    found = CrossValidation.of([fold.name for fold in folds], results)
    _write(out, config, found, time.time() - began)
    return found


def _is_done(fold: Fold) -> bool:
    """Return whether a fold has the results of its settings; raise UserError if they are of others."""
    out = Path(fold.config.out)
    check_settings(out, fold.config)
    rows = json.loads((out / "results.json").read_text())
    return all(row["epochs"] == fold.config.epochs for row in rows)


def _write(out: Path, config: TrainConfig, found: CrossValidation, seconds: float) -> None:
    first = next(iter(found.accuracies))
    made = provenance()
    write_json(
        out / "cross_validation.json",
        {
            "config": config.to_dict(),
            "folds": list(found.folds),
            "utterances": list(found.utterances),
            "encoders": {
                name: {"mean": found.mean(name), "std": found.std(name), "accuracies": list(values)}
                for name, values in found.accuracies.items()
            },
            "majority": found.majority(),
            "chance": 1 / len(found.classes),
            "classes": list(found.classes),
            "confusion": found.confusions[first],
            "training_seconds": sum(found.seconds.values()),
            "seconds_of_this_start": seconds,
            "made": made,
        },
    )
    header, *rows = found.rows()
    lines = [header, ["---"] * len(header), *rows]
    note = (
        f"{sum(found.utterances)} recordings, {sum(found.seconds.values()):,.0f} s of training. Pooling "
        f"{config.pooling}, {config.epochs} epochs, seed {config.seed}. Command: {made['command']}. Commit "
        f"{made['commit']}, {made['date']}. {format_machine(made)}."
    )
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    write_bytes(out / "cross_validation.md", f"{table}\n\n{note}\n".encode())
    title = f"Every recording, labelled by a model that was not trained on its speaker ({first})"
    if config.labels == "speakers":
        title = f"Held-out recordings of all splits ({first})"
    figure = confusion(found.confusions[first], found.classes, title, unit="recordings")
    figure.savefig(out / "confusion.partial.png", metadata={"Software": None})
    (out / "confusion.partial.png").rename(out / "confusion.png")


def _row(rows: Sequence[dict[str, Any]], encoder: str) -> dict[str, Any]:
    found = next((row for row in rows if row["encoder"] == encoder), None)
    if found is None:
        raise UserError(f"a fold has no result of the encoder {encoder}: add --restart to train all folds again.")
    return found

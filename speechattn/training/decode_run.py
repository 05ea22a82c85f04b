"""Greedy decoding and beam search of a CTC run on its validation speakers and test subsets, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechattn.data.labels.text_targets import PHONE_TARGETS
from speechattn.decoding.ngram import NGram
from speechattn.errors import UserError
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.atomic_files import write_json
from speechattn.system.progress import progress_bar
from speechattn.system.stop_signal import StopSignal
from speechattn.system.text_table import text_table
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import Example
from speechattn.training.initial_weights import start_from
from speechattn.training.prepare import prepare
from speechattn.training.run_folder import read_object
from speechattn.training.tasks.ctc import CTCTask
from speechattn.training.tasks.ctc_decoders import BeamSettings, DecoderComparison


def decode_run(
    run: str | Path,
    settings: BeamSettings,
    ngram_file: str | None = None,
    ngram_out: str | None = None,
    json_out: str | None = None,
) -> list[dict[str, Any]]:
    """Decode the held-out speech of a run; print the error rates of each decoder and return them as rows.

    Args:
        run: folder of a run with task ctc, or of a frame classifier of phones, whose data are where they were.
        settings: of the beam search.
        ngram_file: ARPA file of an n-gram; None estimates one from the targets of the training utterances.
        ngram_out: ARPA file to write the n-gram to.
        json_out: JSON file for the rows.

    Raises:
        UserError: the folder holds no such run, or flashlight-text is missing.
    """
    folder = Path(run)
    if not (folder / "config.json").exists():
        raise UserError(f"{folder} holds no run: config.json is missing. Train one with recipes/ctc/train.py.")
    config = TrainConfig.from_dict(read_object(folder / "config.json"))
    model = load(folder / "model")
    if (config.task, config.labels) == ("frames", "phones"):
        config, model = replace(config, task="ctc", stack=1, baselines=(), baseline_settings=()), as_ctc(model)
    if config.task != "ctc":
        raise UserError(
            f"{folder} is a run with task {config.task} and labels {config.labels}: beam search decodes runs of "
            "recipes/ctc, and frame classifiers of phones."
        )
    with StopSignal() as stop:
        data = prepare(config, stop)
        assert isinstance(data.task, CTCTask)
        held_out = {example.utterance.id for example in data.valid}
        given = None if ngram_file is None else NGram.load(ngram_file)
        ngram = given or data.task.ngram(data.corpora[0].subset, held_out, settings.order)
        if ngram_out is not None:
            ngram.save(ngram_out)
            print(f"written to {ngram_out}")
        rows: list[dict[str, Any]] = []
        for name, examples in {"validation": data.valid, **data.tests}.items():
            comparison = DecoderComparison(data.task.classes, ngram, settings)
            for example in progress_bar(examples, desc=f"decode {name}", unit="utt", leave=False):
                stop.poll()
                comparison.add(model, [example])
            perplexity = ngram.perplexity(_sequences(data.task, examples))
            rows += [{"subset": name, "perplexity": perplexity, **row} for row in comparison.rows()]
    print("\n" + "\n".join(text_table(_table(rows))))
    if json_out is not None:
        write_json(json_out, rows)
        print(f"written to {json_out}")
    return rows


def as_ctc(model: SpeechModel) -> SpeechModel:
    """Return a frame classifier of phones as a CTC model, without training: silence is the blank, runs are one label.

    Its best path has a label too many wherever a frame flickers; beam search with a negative label bonus does not.
    """
    found = SpeechModel(replace(model.config, classes=PHONE_TARGETS, head="ctc"))
    print(start_from(found, model))
    return found.eval()


def _sequences(task: CTCTask, examples: Sequence[Example]) -> list[list[str]]:
    return [[task.classes[index] for index in example.labels.tolist()] for example in examples]


def _table(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return header and rows as text."""
    keys = [key for key in rows[0] if key != "perplexity"]
    cells = [[f"{row[key]:.4f}" if key.endswith("rate") else _text(row[key]) for key in keys] for row in rows]
    return [[key.replace("_", " ") for key in keys], *cells]


def _text(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)

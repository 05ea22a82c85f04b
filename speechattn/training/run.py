"""One run from data to report: the encoder and its baselines on the same data, labels, split and budget.

The folder of a run, which the same command continues:

    config.json, data.json         settings and fingerprints of the data; a start with others is refused
    skipped.jsonl                  utterances that were left out, one a line, with the reason
    metrics.jsonl, tensorboard/    the log
    checkpoints/, model/           of the run's own encoder, and result.json once it is trained and scored
    baselines/<encoder>/           the same of each baseline
    results.json, report.html, pictures/
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from speechattn.errors import UserError
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.atomic_files import to_json, write_bytes, write_json
from speechattn.system.process_memory import peak_memory_bytes, reset_peak_memory
from speechattn.system.run_lock import RunLock
from speechattn.system.stop_signal import StopSignal
from speechattn.training.config import EncoderKind, TrainConfig
from speechattn.training.dataset import TrainingBatches
from speechattn.training.evaluate import Baseline, Evaluation, evaluate_examples
from speechattn.training.loop import train
from speechattn.training.metrics import most_frequent
from speechattn.training.prepare import Data, prepare
from speechattn.training.report_data import report_run
from speechattn.training.results_table import print_table
from speechattn.training.run_folder import check_data, check_settings, make_folder, move_aside, read_object
from speechattn.training.run_log import RunLog
from speechattn.training.trainer import Progress


def run(config: TrainConfig, restart: bool = False) -> Path:
    """Train, evaluate and report; return the path of the report. `restart` moves an earlier run aside.

    Raises:
        UserError: the folder is in use, or holds a run with another config or other data.
        Interrupted: SIGINT or SIGTERM came; the same command continues.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    out = Path(config.out)
    if restart:
        move_aside(out)
    make_folder(out)
    with RunLock(out), StopSignal() as stop:
        check_settings(out, config)  # before the work of preparing the data
        _device(config.device)
        data = prepare(config, stop)
        _write_inputs(out, config, data)
        results = []
        with RunLog(out) as log:
            for kind in dict.fromkeys((config.encoder, *config.baselines)):
                folder = out if kind == config.encoder else out / "baselines" / kind
                results.append(_train_one(kind, config, data, folder, log, stop))
        write_json(out / "results.json", results)
        left_out = [corpus.summary() for corpus in data.corpora if corpus.skipped]
        page = report_run(out, config, load(out / "model"), data.valid, results, log.records(), left_out)
    print_table(results)
    print(f"\nmodel   {out / 'model'}\nreport  {page}")
    return page


def _write_inputs(out: Path, config: TrainConfig, data: Data) -> None:
    """Write settings, fingerprints of the data and utterances left out, unless the folder has a run on other data."""
    contents = data.fingerprints()
    check_data(out, contents)
    write_json(out / "config.json", config.to_dict())
    write_json(out / "data.json", contents)
    losses = "".join(to_json(loss) + "\n" for corpus in data.corpora for loss in corpus.losses())
    write_bytes(out / "skipped.jsonl", losses.encode("utf-8", "backslashreplace"))


def _train_one(
    kind: EncoderKind, config: TrainConfig, data: Data, folder: Path, log: RunLog, stop: StopSignal
) -> dict[str, Any]:
    """Train and score one encoder, or read the result if that is done."""
    done = folder / "result.json"
    if done.exists():
        return read_object(done)
    torch.manual_seed(config.seed)
    model = SpeechModel(config.model_config(kind, data.task.classes, data.task.head))
    model.normalize = data.normalize()
    model.to(_device(config.device))
    reset_peak_memory()
    batches = TrainingBatches(data.train, config)
    progress = train(model, data.task, batches, data.valid, config, directory=folder, name=kind, log=log, stop=stop)
    peak_bytes = peak_memory_bytes()
    model.save(folder / "model")
    result = {
        "encoder": kind,
        **_score(model, data, stop),
        "parameters": model.encoder.num_parameters + sum(p.numel() for p in model.head.parameters()),
        **_costs(progress),
        "peak_memory_mb": peak_bytes / 1e6,
    }
    write_json(done, result)
    return result


def _score(model: SpeechModel, data: Data, stop: StopSignal) -> dict[str, Any]:
    """Return the scores on the validation speakers and on each test subset, and those of the majority class."""
    classes = data.task.classes
    majority = most_frequent((example.labels for example in data.train), len(classes))
    valid = evaluate_examples(model, data.task, data.valid, stop)
    tests = {name: evaluate_examples(model, data.task, examples, stop) for name, examples in data.tests.items()}
    floors = {name: Baseline.of(test.confusion, classes, majority).accuracy for name, test in tests.items()}
    return {
        **_accuracies(valid),
        "tests": {name: _accuracies(test) for name, test in tests.items()},
        "always_sil": valid.always_sil,
        "baseline": {**asdict(Baseline.of(valid.confusion, classes, majority)), "tests": floors},
        "frames_per_s": valid.frames_per_s,
        "per_class": valid.per_class,
        "confusion": valid.confusion,
    }


def _accuracies(scores: Evaluation) -> dict[str, float]:
    return {"accuracy": scores.accuracy, "accuracy_no_sil": scores.accuracy_no_sil, "frames": scores.frames}


def _costs(progress: Progress) -> dict[str, float]:
    return {
        "steps": progress.step,
        "bad_steps": progress.bad_steps,
        "seconds": round(progress.seconds, 1),
        "train_frames_per_s": progress.frames_per_s,
    }


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: torch finds no CUDA device here. Use --device cpu; speechattn doctor says more."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")

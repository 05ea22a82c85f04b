"""One run from data to report: the encoder and its baselines on the same data, labels, split and budget.

The folder of a run, which the same command continues:

    config.json, data.json         settings and fingerprints of the data; a start with others is refused
    stages.json                    epochs at which earlier stages ended, if the run was given more epochs
    init.json                      fingerprint of the weights that the run started from, with --init
    skipped.jsonl                  utterances that were left out, one a line, with the reason
    metrics.jsonl, tensorboard/    the log
    checkpoints/, model/           of the run's own encoder, and result.json once it is trained and scored
    baselines/<encoder>/           the same of each baseline
    results.json, report.html, pictures/
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
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
from speechattn.training.distributed import Ranks, lost_rank_as_one_line, process_group
from speechattn.training.evaluate import Baseline, Evaluation, evaluate_examples
from speechattn.training.initial_weights import check_initial, load_initial, start_from
from speechattn.training.loop import train
from speechattn.training.metrics import most_frequent
from speechattn.training.prefetch import lost_worker_as_one_line
from speechattn.training.prepare import Data, prepare
from speechattn.training.report_data import report_run
from speechattn.training.results_table import print_table
from speechattn.training.run_folder import check_data, check_settings, comparable, make_folder, move_aside, read_object
from speechattn.training.run_log import RunLog
from speechattn.training.stages import earlier_stages, record_stages
from speechattn.training.trainer import Progress


def run(config: TrainConfig, restart: bool = False, report: bool = True) -> Path:
    """Train, evaluate and report; return the path of the report. `restart` moves an earlier run aside.

    Without `report` the run ends with results.json, whose path is returned: pictures take longer than a short training.

    Every process of the run calls this. Rank 0 alone holds the lock of the folder, writes and prints; the others wait
    where it works alone.

    Raises:
        UserError: the folder is in use, or holds a run with another config, other data or more epochs; or another
            process has ended.
        Interrupted: SIGINT or SIGTERM came; the same command continues.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    with (
        process_group(config.device) as ranks,
        StopSignal() as stop,
        lost_rank_as_one_line(ranks, stop),
        lost_worker_as_one_line(),
        ranks.quiet_others(),
        _locked_folder(config, restart, ranks) as out,
    ):
        ranks.check_equal("the settings", lambda: _comparable_settings(config))
        initial = load_initial(config)
        with ranks.main_first():  # the others find prepared data
            data = prepare(config, stop)
            if ranks.is_main:
                _write_inputs(out, config, data, initial)
        return _train_all(config, data, initial, out, stop, ranks, report)


def _comparable_settings(config: TrainConfig) -> bytes:
    """Return the settings that all ranks must have in common: not where the data lie, which may differ by node."""
    settings = {key: comparable(key, value) for key, value in config.to_dict().items()}
    return to_json({**settings, "epochs": config.epochs}).encode()


@contextlib.contextmanager
def _locked_folder(config: TrainConfig, restart: bool, ranks: Ranks) -> Iterator[Path]:
    """Make and lock the folder of the run on rank 0, and check the settings before the work of preparing the data."""
    out = Path(config.out)
    if not ranks.is_main:
        yield out
        return
    if restart:
        move_aside(out)
    make_folder(out)
    with RunLock(out):
        check_settings(out, config)
        earlier_stages(out, config.epochs)
        yield out


def _write_inputs(out: Path, config: TrainConfig, data: Data, initial: SpeechModel | None) -> None:
    """Write settings, fingerprints of the data and utterances left out, unless the folder has a run on other data."""
    contents = data.fingerprints()
    check_data(out, contents)
    if initial is not None:
        assert config.init is not None
        check_initial(out, initial, config.init)
    record_stages(out, earlier_stages(out, config.epochs))
    write_json(out / "config.json", config.to_dict())
    write_json(out / "data.json", contents)
    losses = "".join(to_json(loss) + "\n" for corpus in data.corpora for loss in corpus.losses())
    write_bytes(out / "skipped.jsonl", losses.encode("utf-8", "backslashreplace"))


def _train_all(
    config: TrainConfig,
    data: Data,
    initial: SpeechModel | None,
    out: Path,
    stop: StopSignal,
    ranks: Ranks,
    report: bool,
) -> Path:
    """Train and score every encoder of the run, and report; return the path of the report, or of the results."""
    page = out / ("report.html" if report else "results.json")
    results = []
    with RunLog(out) if ranks.is_main else contextlib.nullcontext() as log:
        for kind in dict.fromkeys((config.encoder, *config.baselines)):
            own = kind == config.encoder
            folder = out if own else out / "baselines" / kind
            results.append(_train_one(kind, config, data, initial if own else None, folder, log, stop, ranks))
        if log is not None:
            write_json(out / "results.json", results)
            left_out = [corpus.summary() for corpus in data.corpora if corpus.skipped]
            if report:
                model = load(out / "model")
                page = report_run(out, config, model, data.valid, results, log.records(), left_out)
            print_table(results)
            print(f"\nmodel   {out / 'model'}\n{page.stem:7} {page}")
    ranks.barrier()
    return page


def _train_one(
    kind: EncoderKind,
    config: TrainConfig,
    data: Data,
    initial: SpeechModel | None,
    folder: Path,
    log: RunLog | None,
    stop: StopSignal,
    ranks: Ranks,
) -> dict[str, Any]:
    """Train and score one encoder, or read the result if that is done; ranks other than 0 return no result."""
    stages = earlier_stages(Path(config.out), config.epochs)
    result = _read_result(folder, (*stages, config.epochs)) if ranks.is_main else None
    if ranks.from_main(result is not None):
        return result or {}
    torch.manual_seed(config.seed)
    model = SpeechModel(config.model_config(kind, data.task.classes, data.task.head))
    if initial is None:
        model.normalize = data.normalize()
    else:
        print(start_from(model, initial))
    if initial is not None and config.freeze_encoder:
        model.encoder.requires_grad_(False)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        print(f"the encoder is frozen: {trained:,} of {sum(p.numel() for p in model.parameters()):,} parameters train")
    model.to(ranks.device)
    reset_peak_memory()
    with contextlib.closing(TrainingBatches(data.train, config)) as batches:
        progress = train(
            model,
            data.task,
            batches,
            data.valid,
            config,
            directory=folder,
            name=kind,
            log=log,
            stop=stop,
            ranks=ranks,
            stages=stages,
        )
    peak_bytes = peak_memory_bytes()
    if ranks.is_main:
        model.save(folder / "model")
        result = {
            "encoder": kind,
            **_score(model, data, stop),
            "parameters": model.encoder.num_parameters + sum(p.numel() for p in model.head.parameters()),
            **_costs(progress),
            "epochs": config.epochs,
            "peak_memory_mb": peak_bytes / 1e6,
        }
        write_json(folder / "result.json", result)
    ranks.barrier()
    return result or {}


def _read_result(folder: Path, stage_ends: Sequence[int]) -> dict[str, Any] | None:
    """Return the result of an encoder that is trained and scored, None if there is none of this number of epochs.

    Raises:
        UserError: there is one of fewer epochs, and no checkpoint to continue from.
    """
    if not (folder / "result.json").exists():
        return None
    result = read_object(folder / "result.json")
    if result.get("epochs", stage_ends[0]) == stage_ends[-1]:
        return result
    if not any((folder / "checkpoints").glob("step-*")):
        raise UserError(
            f"{folder / 'checkpoints'} is empty: more epochs need the last checkpoint. Start a new run with "
            f"--init {folder / 'model'} and another --out."
        )
    return None


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

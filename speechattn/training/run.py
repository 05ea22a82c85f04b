"""One run from data to report: the encoder and its baselines on the same data, labels, split and budget.

The folder of a run, which the same command continues:

    config.json, data.json         settings and fingerprints of the data; a start with others is refused
    stages.json                    epochs at which earlier stages ended, if the run was given more epochs
    own.json                       names of the parts that the caller gave, if there are any
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
from pathlib import Path
from typing import Any

import torch

from speechattn.errors import UserError
from speechattn.models.factories import BlockFactory, EncoderFactory, HeadFactory
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.atomic_files import to_json, write_bytes, write_json
from speechattn.system.process_memory import peak_memory_bytes, reset_peak_memory
from speechattn.system.run_lock import RunLock
from speechattn.system.stop_signal import StopSignal
from speechattn.training import loop
from speechattn.training.config import EncoderKind, TrainConfig
from speechattn.training.dataset import TrainingBatches
from speechattn.training.distributed import Ranks, lost_rank_as_one_line, process_group
from speechattn.training.evaluate import evaluate_examples, majority_baseline
from speechattn.training.initial_weights import check_initial, load_initial, start_from
from speechattn.training.own_parts import OwnParts
from speechattn.training.prefetch import lost_worker_as_one_line
from speechattn.training.prepare import Data, prepare
from speechattn.training.provenance import provenance
from speechattn.training.report_page import report_run
from speechattn.training.report_sections.inputs import ReportInputs
from speechattn.training.results_table import print_table
from speechattn.training.run_folder import (
    check_data,
    check_own_parts,
    check_settings,
    comparable,
    make_folder,
    move_aside,
    read_object,
)
from speechattn.training.run_log import RunLog
from speechattn.training.stages import earlier_stages, record_stages
from speechattn.training.trainer import Augmentation, Progress


def train(
    config: TrainConfig,
    *,
    block: BlockFactory | None = None,
    encoder: EncoderFactory | None = None,
    head: HeadFactory | None = None,
    augment: Augmentation | None = None,
    restart: bool = False,
) -> Path:
    """Train, evaluate and report with parts of your own; return the path of the report.

    Load the model with the same parts: ``sa.load(folder, block=..., encoder=..., head=...)``.

    Args:
        config: the settings of the run.
        block: ``block(config, context)`` returns a block of the encoder, an EncoderConfig and a Context given; it
            replaces that of the run's own encoder, not of its baselines.
        encoder: ``encoder(config)`` returns the whole encoder, a module as `Encoder`.
        head: ``head(d_model, num_classes)`` returns a module with the inputs and outputs of the task's head.
        augment: ``augment(frames, lengths, generator)`` returns changed frames [B, T, F]; all random numbers must come
            from the generator, so that a run that was stopped continues alike.
        restart: move an earlier run in the folder aside.

    Raises:
        UserError: as `run`.
    """
    return run(config, restart, OwnParts(block, encoder, head, augment))


def run(config: TrainConfig, restart: bool = False, own: OwnParts | None = None, report: bool = True) -> Path:
    """Train, evaluate and report; return the path of the report. `restart` moves an earlier run aside.

    Without `report` the run ends with results.json, whose path is returned: pictures take longer than a short training.

    Every process of the run calls this. Rank 0 alone holds the lock of the folder, writes and prints; the others wait
    where it works alone.

    Raises:
        UserError: the folder is in use, or holds a run with another config, other data or more epochs; or another
            process has ended.
        Interrupted: SIGINT or SIGTERM came; the same command continues.
    """
    own = own or OwnParts()
    if config.threads:
        torch.set_num_threads(config.threads)
    with (
        process_group(config.device) as ranks,
        StopSignal() as stop,
        lost_rank_as_one_line(ranks, stop),
        lost_worker_as_one_line(),
        ranks.quiet_others(),
        _locked_folder(config, restart, ranks, own) as out,
    ):
        ranks.check_equal("the settings", lambda: _comparable_settings(config))
        initial = load_initial(config)
        with ranks.main_first():  # the others find prepared data
            data = prepare(config, stop)
            if ranks.is_main:
                _write_inputs(out, config, data, initial, own)
        return _train_all(config, data, initial, own, out, stop, ranks, report)


def _comparable_settings(config: TrainConfig) -> bytes:
    """Return the settings that all ranks must have in common: not where the data lie, which may differ by node."""
    settings = {key: comparable(key, value) for key, value in config.to_dict().items()}
    return to_json({**settings, "epochs": config.epochs}).encode()


@contextlib.contextmanager
def _locked_folder(config: TrainConfig, restart: bool, ranks: Ranks, own: OwnParts) -> Iterator[Path]:
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
        check_own_parts(out, own.names())
        earlier_stages(out, config.epochs)
        yield out


def _write_inputs(out: Path, config: TrainConfig, data: Data, initial: SpeechModel | None, own: OwnParts) -> None:
    """Write settings, fingerprints of the data and utterances left out, unless the folder has a run on other data."""
    contents = data.fingerprints()
    check_data(out, contents)
    if initial is not None:
        assert config.init is not None
        check_initial(out, initial, config.init)
    record_stages(out, earlier_stages(out, config.epochs))
    if own.names():
        write_json(out / "own.json", own.names())
    write_json(out / "config.json", config.to_dict())
    write_json(out / "data.json", contents)
    losses = "".join(to_json(loss) + "\n" for corpus in data.corpora for loss in corpus.losses())
    write_bytes(out / "skipped.jsonl", losses.encode("utf-8", "backslashreplace"))


def _train_all(
    config: TrainConfig,
    data: Data,
    initial: SpeechModel | None,
    own: OwnParts,
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
            first = kind == config.encoder
            folder = out if first else out / "baselines" / kind
            parts = own if first else OwnParts(augment=own.augment)
            results.append(_train_one(kind, config, data, initial if first else None, parts, folder, log, stop, ranks))
        if log is not None:
            write_json(out / "results.json", results)
            if report:
                left_out = [corpus.summary() for corpus in data.corpora if corpus.skipped]
                model = load(out / "model", block=own.block, encoder=own.encoder, head=own.head)
                inputs = ReportInputs(config, model, data.task, data.valid, results, log.records())
                page = report_run(out, inputs, left_out)
            print_table(config.task, results)
            print(f"\nmodel   {out / 'model'}\n{page.stem:7} {page}")
    ranks.barrier()
    return page


def _train_one(
    kind: EncoderKind,
    config: TrainConfig,
    data: Data,
    initial: SpeechModel | None,
    own: OwnParts,
    folder: Path,
    log: RunLog | None,
    stop: StopSignal,
    ranks: Ranks,
) -> dict[str, Any]:
    """Train and score one encoder, or read the result if that is done; ranks other than 0 return no result."""
    of_run, config = config, config.of_encoder(kind)
    stages = earlier_stages(Path(config.out), config.epochs) if config.epochs == of_run.epochs else ()
    result = _read_result(folder, (*stages, config.epochs)) if ranks.is_main else None
    if ranks.from_main(result is not None):
        return result or {}
    torch.manual_seed(config.seed)
    model = own.build(config.model_config(kind, data.task.classes, data.task.head))
    if initial is None or config.refit_normalize:
        model.normalize = data.normalize()
    if initial is not None:
        print(start_from(model, initial, keep_normalize=config.refit_normalize))
    if initial is not None and config.freeze_encoder:
        model.encoder.requires_grad_(False)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        print(f"the encoder is frozen: {trained:,} of {sum(p.numel() for p in model.parameters()):,} parameters train")
    model.to(ranks.device)
    reset_peak_memory()
    task = data.task
    with contextlib.closing(TrainingBatches(data.train, config, task.per_frame, task.whole_utterances)) as batches:
        progress = loop.train(
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
            augment=own.augment,
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
            "made": provenance(ranks.device.type),
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
    """Return the scores on the validation side and on each test subset, and those of the majority class."""
    classes = data.task.classes
    majority = data.task.majority(example.labels for example in data.train)
    valid = evaluate_examples(model, data.task, data.valid, stop).row()
    tests = {name: evaluate_examples(model, data.task, examples, stop).row() for name, examples in data.tests.items()}
    baseline = majority_baseline(classes, valid, majority)
    if baseline is not None:
        floors = {name: majority_baseline(classes, test, majority) for name, test in tests.items()}
        baseline["tests"] = {name: floor["accuracy"] for name, floor in floors.items() if floor is not None}
    numbers = {
        name: {key: x for key, x in test.items() if isinstance(x, int | float) or key == "by_speaker"}
        for name, test in tests.items()
    }
    return {**valid, "tests": numbers, "baseline": baseline}


def _costs(progress: Progress) -> dict[str, float]:
    return {
        "steps": progress.step,
        "bad_steps": progress.bad_steps,
        "seconds": round(progress.seconds, 1),
        "train_frames_per_s": progress.frames_per_s,
    }

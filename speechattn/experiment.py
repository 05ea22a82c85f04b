"""One run from data to report: the encoder and its baselines on the same data, labels, split and budget.

The folder of a run, which the same command continues:

    config.json, data.json         what this is a run of; another config or other data are refused
    metrics.jsonl, tensorboard/    the log
    checkpoints/, model/           of the run's own encoder, and result.json once it is trained and scored
    baselines/<encoder>/           the same of each baseline
    results.json, report.html, pictures/
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from speechattn.copies import Copies
from speechattn.data.corpus import check_disjoint, load_corpus, split_by_speaker
from speechattn.data.labels import PHONES, SPEECH, word_classes
from speechattn.dataset import Example, TrainingBatches, fingerprint, make_examples
from speechattn.errors import UserError
from speechattn.evaluation import Evaluation, evaluate_examples
from speechattn.files import write_json
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.mfcc import build_frontend
from speechattn.frontend.normalize import Normalize
from speechattn.lock import RunLock
from speechattn.memory import peak_memory_bytes, reset_peak_memory
from speechattn.model import SpeechModel, load
from speechattn.runlog import RunLog
from speechattn.runreport import print_table, report_run
from speechattn.signals import StopSignal
from speechattn.trainconfig import EncoderKind, TrainConfig
from speechattn.training import train


@dataclass(frozen=True)
class Data:
    """The classes of a run and its examples: training and validation speakers, and further subsets by name."""

    classes: tuple[str, ...]
    train: list[Example]
    valid: list[Example]
    tests: dict[str, list[Example]]


def run(config: TrainConfig, restart: bool = False) -> Path:
    """Train, evaluate and report; returns the path of the report.

    Raises:
        UserError: the folder is in use, or holds a run with another config or other data.
        Interrupted: SIGINT or SIGTERM came; the same command continues.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    output = Path(config.output)
    if restart:
        _move_aside(output)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output} cannot be made ({error.strerror}); choose another folder.") from error
    with RunLock(output), StopSignal() as stop:
        settings = {"config.json": config.to_dict()}
        _check_same(output, settings)  # before the work of preparing the data
        _device(config.device)
        data = prepare(config, stop)
        _check_length(config, data)
        sides = {"train": data.train, "valid": data.valid}
        settings["data.json"] = {name: fingerprint(side, data.classes) for name, side in sides.items()}
        _check_same(output, settings)
        for name, content in settings.items():
            write_json(output / name, content)
        results = []
        with RunLog(output) as log:
            for kind in dict.fromkeys((config.encoder, *config.baselines)):
                folder = output if kind == config.encoder else output / "baselines" / kind
                results.append(_train_one(kind, config, data, folder, log, stop))
        write_json(output / "results.json", results)
        page = report_run(output, config, load(output / "model"), data.valid, results, log.records())
    print_table(results)
    print(f"\nmodel   {output / 'model'}\nreport  {page}")
    return page


def prepare(config: TrainConfig, stop: StopSignal) -> Data:
    """Load, label and split the data: frames of every utterance, speakers of the three parts disjoint."""
    root, alignments, tests = Path(config.data), config.alignments, config.test_subsets
    if config.data == "synthetic":
        from speechattn.data.synthetic import SyntheticConfig, default_cache, synthesize_corpus

        root = synthesize_corpus(default_cache(), SyntheticConfig())
        stop.poll()
        alignments, tests = str(root / "alignments"), config.test_subsets or ("test",)
    frontend = make_frontend(config)
    rate = frontend.framing.sample_rate
    fixed = {"phones": PHONES, "speech": SPEECH}.get(config.labels)
    corpus = load_corpus(root, config.subset, alignments, fixed, sample_rate=rate)
    print(corpus.summary())
    classes = fixed or word_classes((item.segments for item in corpus.utterances), config.num_words)
    print(f"labels: {config.labels}, {len(classes)} classes")
    train_side, valid_side = split_by_speaker(corpus.utterances, config.valid_fraction, config.seed)
    chosen = {item.id for item in valid_side}
    others = {}
    for name in tests:
        other = load_corpus(root, name, alignments, classes, max_bad=0.0, sample_rate=rate)
        check_disjoint(corpus.utterances, other.utterances)
        print(other.summary())
        others[name] = other
    examples = make_examples(corpus, frontend, classes, stop, Copies.of(config, chosen, rate))
    data = Data(
        classes,
        [example for example in examples if example.utterance.id not in chosen],
        [example for example in examples if example.utterance.id in chosen],
        {name: make_examples(other, frontend, classes, stop) for name, other in others.items()},
    )
    speakers = (len({item.speaker for item in side}) for side in (train_side, valid_side))
    print("training on {} speakers, validating on {} others".format(*speakers))
    return data


def make_frontend(config: TrainConfig) -> LogMel:
    """The frontend of a run."""
    return build_frontend(
        config.features, config.num_mels, flavor=config.flavor, num_ceps=config.num_ceps, deltas=config.deltas
    )


def _train_one(
    kind: EncoderKind, config: TrainConfig, data: Data, folder: Path, log: RunLog, stop: StopSignal
) -> dict[str, Any]:
    """Train one encoder, or read the result of having done so."""
    done = folder / "result.json"
    if done.exists():
        return _read_object(done)
    torch.manual_seed(config.seed)
    device = _device(config.device)
    model = SpeechModel(config.model_config(kind, data.classes))
    model.normalize = Normalize.fit(example.frames for example in data.train)
    model.to(device)
    reset_peak_memory()
    batches = TrainingBatches(data.train, config)
    progress = train(model, batches, data.valid, config, directory=folder, name=kind, log=log, stop=stop)
    peak = peak_memory_bytes()
    model.save(folder / "model")
    outcome = evaluate_examples(model, data.valid, stop)
    result = {
        "encoder": kind,
        **_scores(outcome),
        "tests": {name: _scores(evaluate_examples(model, examples, stop)) for name, examples in data.tests.items()},
        "always_sil": outcome.always_sil,
        "parameters": model.encoder.num_parameters + sum(p.numel() for p in model.head.parameters()),
        "steps": progress.step,
        "bad_steps": progress.bad_steps,
        "seconds": round(progress.seconds, 1),
        "train_frames_per_s": progress.frames / max(progress.seconds, 1e-9),
        "frames_per_s": outcome.frames_per_s,
        "peak_memory_mb": peak / 1e6,
        "per_class": outcome.per_class,
        "confusion": outcome.confusion,
    }
    write_json(done, result)
    return result


def _scores(outcome: Evaluation) -> dict[str, float]:
    return {"accuracy": outcome.accuracy, "accuracy_no_sil": outcome.accuracy_no_sil, "frames": outcome.frames}


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "--device cuda: torch finds no CUDA device here. Use --device cpu; speechattn doctor says more."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _check_length(config: TrainConfig, data: Data) -> None:
    """Say before the training, not at its first validation, that learned positions end before a recording does."""
    whole = itertools.chain(data.valid, *data.tests.values())
    longest = max((len(example.labels) for example in whole), default=0)
    if config.learns_positions and longest > config.max_frames:
        raise UserError(
            f"learned positions end at --max-frames {config.max_frames}, and the longest recording to be scored has "
            f"{longest} frames: use --max-frames {longest} or more, or --positions relative."
        )


def _check_same(output: Path, settings: dict[str, dict[str, Any]]) -> None:
    """Insist that a run which `output` already holds has these settings and these data."""
    for name, wanted in settings.items():
        if not (output / name).exists():
            continue
        found = _read_object(output / name)
        if name == "config.json":  # a setting that is newer than the run had its default there
            found = {**TrainConfig().to_dict(), **found}
        differing = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key) and key != "output"]
        if differing:
            changes = ", ".join(f"{key} was {found.get(key)!r} and is {wanted.get(key)!r}" for key in differing[:5])
            what = "other settings" if name == "config.json" else "other data"
            raise UserError(
                f"{output} holds a run with {what}: {changes}. Choose another --output, or --restart to move it aside."
            )


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object that an earlier start of the run wrote."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}). Restore it, choose another --output, or --restart to move the run aside."
        ) from error
    return found


def _move_aside(output: Path) -> None:
    """Rename a run's folder to the first free `<name>.previous-<n>`: nothing is ever deleted."""
    if not output.exists():
        return
    if output.name in ("", ".."):
        raise UserError(f"--restart cannot move {output} aside: give --output a folder of its own.")
    if not (output / "config.json").exists():
        return  # no run, at most the leavings of a start that failed
    with RunLock(output):
        number = 1
        while (target := output.with_name(f"{output.name}.previous-{number}")).exists():
            number += 1
        output.rename(target)
    print(f"the run that was in {output} is now in {target}")

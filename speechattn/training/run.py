"""One run from data to report: the encoder and its baselines on the same data, labels, split and budget.

The folder of a run, which the same command continues:

    config.json, data.json         what this is a run of; other settings or other data are refused, wherever they lie
    skipped.jsonl                  utterances that were left out, one a line, and why
    metrics.jsonl, tensorboard/    the log
    checkpoints/, model/           of the run's own encoder, and result.json once it is trained and scored
    baselines/<encoder>/           the same of each baseline
    results.json, report.html, pictures/
"""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from speechattn.data.labelled_corpus import Corpus, load_corpus
from speechattn.data.labels.classes import PHONES, SPEECH, word_classes
from speechattn.data.speaker_split import check_disjoint, split_by_speaker
from speechattn.errors import UserError
from speechattn.frontend.factory import build_frontend
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.normalize import Normalize
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.atomic_files import to_json, write_bytes, write_json
from speechattn.system.process_memory import peak_memory_bytes, reset_peak_memory
from speechattn.system.run_lock import RunLock
from speechattn.system.stop_signal import StopSignal
from speechattn.training.config import EncoderKind, TrainConfig
from speechattn.training.dataset import Example, TrainingBatches, fingerprint, make_examples
from speechattn.training.evaluate import Baseline, Evaluation, evaluate_examples
from speechattn.training.loop import train
from speechattn.training.metrics import most_frequent
from speechattn.training.perturbed_copies import Copies
from speechattn.training.report_data import print_table, report_run
from speechattn.training.run_log import RunLog


@dataclass(frozen=True)
class Data:
    """The classes of a run and its examples: training and validation speakers, and further subsets by name.

    `corpora` are those that the examples come from, and know what was left out.
    """

    classes: tuple[str, ...]
    train: list[Example]
    valid: list[Example]
    tests: dict[str, list[Example]]
    corpora: list[Corpus]


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
        _check_settings(output, config)  # before the work of preparing the data
        _device(config.device)
        data = prepare(config, stop)
        _check_length(config, data)
        sides = {"train": data.train, "valid": data.valid}
        sides |= {f"test subset {name}": examples for name, examples in data.tests.items()}
        contents = {name: asdict(fingerprint(side, data.classes)) for name, side in sides.items()}
        _check_data(output, contents)
        write_json(output / "config.json", config.to_dict())
        write_json(output / "data.json", contents)
        losses = [loss for corpus in data.corpora for loss in corpus.losses()]
        write_bytes(
            output / "skipped.jsonl",
            "".join(to_json(loss) + "\n" for loss in losses).encode("utf-8", "backslashreplace"),
        )
        results = []
        with RunLog(output) as log:
            for kind in dict.fromkeys((config.encoder, *config.baselines)):
                folder = output if kind == config.encoder else output / "baselines" / kind
                results.append(_train_one(kind, config, data, folder, log, stop))
        write_json(output / "results.json", results)
        left_out = [corpus.summary() for corpus in data.corpora if corpus.skipped]
        page = report_run(output, config, load(output / "model"), data.valid, results, log.records(), left_out)
    print_table(results)
    print(f"\nmodel   {output / 'model'}\nreport  {page}")
    return page


def prepare(config: TrainConfig, stop: StopSignal) -> Data:
    """Load, label and split the data: frames of every utterance, speakers of the three parts disjoint."""
    root, alignments, tests = Path(config.data), config.alignments, config.test_subsets
    if config.data == "synthetic":
        from speechattn.data.synthetic.config import SyntheticConfig
        from speechattn.data.synthetic.corpus import default_cache, synthesize_corpus

        root = synthesize_corpus(default_cache(), SyntheticConfig())
        stop.poll()
        alignments, tests = str(root / "alignments"), config.test_subsets or ("test",)
    frontend = make_frontend(config)
    rate = frontend.framing.sample_rate
    fixed = {"phones": PHONES, "speech": SPEECH}.get(config.labels)
    max_bad = 0.01 if config.max_bad is None else config.max_bad
    corpus = load_corpus(root, config.subset, alignments, fixed, max_bad, sample_rate=rate)
    print(corpus.summary())
    classes = fixed or word_classes((item.segments for item in corpus.utterances), config.num_words)
    print(f"labels: {config.labels}, {len(classes)} classes")
    train_side, valid_side = split_by_speaker(corpus.utterances, config.valid_fraction, config.seed)
    chosen = {item.id for item in valid_side}
    others = {}
    for name in tests:
        other = load_corpus(root, name, alignments, classes, config.max_bad or 0.0, sample_rate=rate)
        check_disjoint(corpus.utterances, other.utterances)
        print(other.summary())
        others[name] = other
    examples = make_examples(corpus, frontend, classes, stop, Copies.of(config, chosen, rate))
    data = Data(
        classes,
        [example for example in examples if example.utterance.id not in chosen],
        [example for example in examples if example.utterance.id in chosen],
        {name: make_examples(other, frontend, classes, stop) for name, other in others.items()},
        [corpus, *others.values()],
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
    majority = most_frequent((example.labels for example in data.train), len(data.classes))
    model = SpeechModel(config.model_config(kind, data.classes))
    model.normalize = Normalize.fit(example.frames for example in data.train)
    model.to(device)
    reset_peak_memory()
    batches = TrainingBatches(data.train, config)
    progress = train(model, batches, data.valid, config, directory=folder, name=kind, log=log, stop=stop)
    peak = peak_memory_bytes()
    model.save(folder / "model")
    outcome = evaluate_examples(model, data.valid, stop)
    tests = {name: evaluate_examples(model, examples, stop) for name, examples in data.tests.items()}
    result = {
        "encoder": kind,
        **_scores(outcome),
        "tests": {name: _scores(test) for name, test in tests.items()},
        "always_sil": outcome.always_sil,
        "baseline": {
            **asdict(Baseline.of(outcome.confusion, data.classes, majority)),
            "tests": {
                name: Baseline.of(test.confusion, data.classes, majority).accuracy for name, test in tests.items()
            },
        },
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
            f"{longest} frames: use --max-frames {longest} or more, or --position-encoding relative."
        )


def _check_settings(output: Path, config: TrainConfig) -> None:
    """Insist that a run which `output` already holds has these settings; where its data lie is none of them."""
    if not (output / "config.json").exists():
        return
    wanted = config.to_dict()
    found = {**TrainConfig().to_dict(), **_read_object(output / "config.json")}  # a newer setting had its default
    differing = [key for key in {**found, **wanted} if _meaning(key, found.get(key)) != _meaning(key, wanted.get(key))]
    if differing:
        changes = [f"{key} was {found.get(key)!r} and is {wanted.get(key)!r}" for key in differing]
        raise _another_run(output, "settings", changes)


def _meaning(key: str, value: Any) -> Any:
    """Return what of a setting two starts of a run must share: of data, what they are is compared later."""
    if key in ("output", "data", "alignments", "max_bad", "checkpoint_seconds"):
        return None
    if key == "noise":  # its names and sizes are in the ids of the copies
        return value is None
    return sorted(set(value)) if key in ("test_subsets", "baselines") and isinstance(value, list) else value


def _check_data(output: Path, contents: dict[str, dict[str, Any]]) -> None:
    """Insist that a run which `output` already holds has these data."""
    if not (output / "data.json").exists():
        return
    found = _read_object(output / "data.json")
    changes = []
    for side, now in contents.items():
        before = found.get(side)
        if not isinstance(before, dict) or before.keys() != now.keys():
            changes.append(f"{side} was written by another version of speechattn")
            continue
        counts = [key for key in ("utterances", "speakers", "frames") if before[key] != now[key]]
        changes += [f"{side} had {before[key]} {key} and has {now[key]}" for key in counts]
        if not counts:
            changes += [f"the {key} of {side} differ" for key in ("ids", "labels") if before[key] != now[key]]
            changes += [f"sound files of {side} differ"] if before["sound"] != now["sound"] else []
    if changes:
        raise _another_run(output, "data", changes)


def _another_run(output: Path, what: str, changes: list[str]) -> UserError:
    return UserError(
        f"{output} holds a run with other {what}: {', '.join(changes[:5])}. Choose another --output, or --restart to "
        "move it aside."
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

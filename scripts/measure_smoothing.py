"""What smoothing does to the labels of the shipped model, or --model: the tables of docs/labelling.md.

    python scripts/measure_smoothing.py --data DIR/LibriSpeech --alignments DIR/alignments --recording CHAPTER

Two sets: the validation speakers of the recipe's split of --subset (by which settings are chosen), and --test-subset.
Logits are computed once for each utterance, offline.

    accuracy      share of the frames with a label
    one frame     share of the segments that last one frame
    segments / s  by the duration of all audio
    errors        phone error rate: substitutions, insertions and deletions by the phones of the reference, silence left
                  out, runs of one label as one phone
    extra ms      what a lag adds to the latency

"reference" is the alignment itself. Tables: cost by minimum duration of whole recordings; lags with --cost and
--min-frames; the logits less the logarithm of the class frequencies of the training speakers, weighted; --recording,
which has no reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

import jiwer
import torch
from benchmark_measuring import format_machine, machine
from torch import Tensor

import speechattn as sa
from speechattn.data.audio.files import audio_samples
from speechattn.data.labelled_corpus import Corpus, LabelledUtterance, load_corpus
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segments import SILENCE
from speechattn.data.speaker_split import split_by_speaker
from speechattn.decoding.smoothing import Smoothing
from speechattn.decoding.viterbi import ViterbiStream, viterbi
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel
from speechattn.system.text_table import text_table

COSTS = (0.0, 1.0, 2.0, 3.0, 4.0)
MIN_FRAMES = (1, 2, 3, 4)
LAGS = (0, 2, 5, 10, 20, 40)
PRIOR_WEIGHTS = (0.25, 0.5)
COLUMNS = ("accuracy", "one frame", "segments / s", "errors")


class Labelled(NamedTuple):
    """The logits [T, C] of an utterance and the classes [T] of its alignment, -100 where there is none."""

    logits: Tensor
    reference: Tensor


class Scores(NamedTuple):
    """The four columns, of one setting on one set."""

    accuracy: float
    one_frame: float
    segments_per_s: float
    errors: float

    def cells(self) -> list[str]:
        """Return the numbers as they are printed."""
        return [
            f"{self.accuracy:.4f}",
            f"{100 * self.one_frame:.1f} %",
            f"{self.segments_per_s:.1f}",
            f"{100 * self.errors:.1f} %",
        ]


def main() -> None:
    """Measure and print."""
    options = parse()
    torch.set_num_threads(1)
    model = sa.load(options.model) if options.model else sa.load_pretrained("small-en-phones")
    config = model.config
    rate = config.framing.sample_rate
    corpus = load_corpus(options.data, options.subset, options.alignments, config.classes, sample_rate=rate)
    test = load_corpus(options.data, options.test_subset, options.alignments, config.classes, sample_rate=rate)
    train_side, valid_side = split_by_speaker(corpus.utterances, options.valid_fraction, options.seed)
    sets = {
        f"{len({item.speaker for item in valid_side})} validation speakers": examples(model, corpus, valid_side),
        options.test_subset: examples(model, test, test.utterances),
    }
    print(format_machine(machine()))
    print_table("whole recordings, by cost and minimum duration", sets, config, whole_rows(sets))
    print_table(
        f"fixed lags, cost {options.cost:g}, at least {options.min_frames} frames",
        sets,
        config,
        lag_rows(sets, config, options.cost, options.min_frames),
    )
    prior = log_prior(train_side, config)
    print_table("logits less weighted log priors", sets, config, prior_rows(sets, prior, options.cost))
    if options.recording:
        print_recording(model, options.recording, options.cost, options.min_frames)


Rows = Iterable[tuple[list[str], list[list[Tensor]]]]
"""The first cells of each row, and the classes [T] of every utterance of each set."""


def whole_rows(sets: dict[str, list[Labelled]]) -> Rows:
    """Yield a row for each cost and minimum."""
    yield ["reference", "", ""], [[item.reference for item in items] for items in sets.values()]
    yield ["argmax", "", ""], [[item.logits.argmax(-1) for item in items] for items in sets.values()]
    for least in MIN_FRAMES:
        for cost in COSTS:
            if cost or least > 1:
                labels = [[viterbi(item.logits, cost, least) for item in items] for items in sets.values()]
                yield [f"cost {cost:g}", f"min {least}", ""], labels


def lag_rows(sets: dict[str, list[Labelled]], config: ModelConfig, cost: float, least: int) -> Rows:
    """Yield a row for each lag, and for whole recordings."""
    for lag in (*LAGS, None):
        labels = [[streamed(item.logits, Smoothing(cost, least, lag)) for item in items] for items in sets.values()]
        extra = "" if lag is None else f"+{lag * config.framing.hop_ms:g} ms"
        yield [f"lag {lag}" if lag is not None else "whole", extra, ""], labels


def prior_rows(sets: dict[str, list[Labelled]], prior: Tensor, cost: float) -> Rows:
    """Yield a row for each weight of the prior."""
    for weight in PRIOR_WEIGHTS:
        labels = [[viterbi(item.logits - weight * prior, cost) for item in items] for items in sets.values()]
        yield [f"cost {cost:g}", f"prior ^ {weight:g}", ""], labels


def print_table(title: str, sets: dict[str, list[Labelled]], config: ModelConfig, rows: Rows) -> None:
    """Print the scores of each row on each set."""
    table = [["", "", ""], ["", "", ""]]
    for name in sets:
        table[0] += [name, "", "", ""]
        table[1] += COLUMNS
    for first, labels in rows:
        cells = list(first)
        for found, items in zip(labels, sets.values(), strict=True):
            cells += score(found, items, config).cells()
        table.append(cells)
    print(f"\n{title}\n")
    print("\n".join(text_table([[cell for i, cell in enumerate(row) if i != 2] for row in table], "<<>")))


def score(found: Sequence[Tensor], items: Sequence[Labelled], config: ModelConfig) -> Scores:
    """Return the scores of the classes [T] of each utterance."""
    pairs = [(labels, item.reference) for labels, item in zip(found, items, strict=True)]
    known = [(labels[reference >= 0], reference[reference >= 0]) for labels, reference in pairs]
    right = sum(int((labels == reference).sum()) for labels, reference in known)
    lengths = [count for labels, _ in known for _, count in runs(labels)]
    seconds = sum(len(labels) for labels, _ in known) / config.framing.frames_per_second
    errors = jiwer.wer(
        [phones(reference, config.classes) for _, reference in known],
        [phones(labels, config.classes) for labels, _ in known],
    )
    return Scores(
        right / sum(len(labels) for labels, _ in known),
        sum(count == 1 for count in lengths) / len(lengths),
        len(lengths) / seconds,
        float(errors),
    )


def runs(labels: Tensor) -> list[tuple[int, int]]:
    """Return (class, frames) of each run of equal classes."""
    return [(c, len(list(run))) for c, run in groupby(labels.tolist())]


def phones(labels: Tensor, classes: Sequence[str]) -> str:
    """Return the phones of classes [T] in order, without silence."""
    return " ".join(classes[c] for c, _ in runs(labels) if classes[c] != SILENCE)


def streamed(logits: Tensor, smoothing: Smoothing) -> Tensor:
    """Return the classes [T] that a stream emits."""
    decoder = ViterbiStream(logits.shape[1], smoothing)
    labels, state = decoder.step(logits, decoder.initial_state())
    return torch.cat((labels, decoder.flush(state)))


@torch.inference_mode()
def examples(model: SpeechModel, corpus: Corpus, items: Sequence[LabelledUtterance]) -> list[Labelled]:
    """Return logits and reference of each utterance."""
    config = model.config
    found = []
    for item, waveform in corpus.waveforms(items):
        logits = model(waveform[None])[0][0]
        reference = frame_labels(item.segments, len(waveform), config.framing, config.classes)
        found.append(Labelled(logits, reference))
    return found


def log_prior(items: Sequence[LabelledUtterance], config: ModelConfig) -> Tensor:
    """Return the logarithm of the class frequencies [C]; every class has one frame more than it has."""
    counts = torch.ones(len(config.classes), dtype=torch.float64)
    for item in items:
        labels = frame_labels(item.segments, item.num_samples, config.framing, config.classes)
        counts += torch.bincount(labels[labels >= 0], minlength=len(counts))
    return (counts / counts.sum()).log()


def print_recording(model: SpeechModel, path: str, cost: float, least: int) -> None:
    """Print how many segments of a long recording last one frame, before and after."""
    with torch.inference_mode():
        logits = torch.cat(list(sa.encode_long(model, path, progress=False)))
    seconds = audio_samples(path, model.config.framing.sample_rate) / model.config.framing.sample_rate
    print(f"\n{path.rpartition('/')[2]}, {seconds:.0f} s\n")
    table = [["", "segments", "one frame", "segments / s"]]
    settings = {"argmax": None, "whole": Smoothing(cost, least, None)}
    settings |= {f"lag {lag}": Smoothing(cost, least, lag) for lag in LAGS}
    for name, smoothing in settings.items():
        labels = logits.argmax(-1) if smoothing is None else streamed(logits, smoothing)
        lengths = [count for _, count in runs(labels)]
        short = sum(count == 1 for count in lengths)
        table.append([name, str(len(lengths)), f"{100 * short / len(lengths):.1f} %", f"{len(lengths) / seconds:.1f}"])
    print("\n".join(text_table(table, "<>")))
    waited = waits(logits, Smoothing(cost, least, None)).double() * model.config.framing.hop_ms
    shares = ", ".join(f"{share:g} % {waited.quantile(share / 100):.0f} ms" for share in (50, 90, 99, 99.9, 100))
    print(f"\nwhole: a label is certain after {shares}")


def waits(logits: Tensor, smoothing: Smoothing) -> Tensor:
    """Return by how many frames each label comes after its own, if frames come one by one."""
    decoder = ViterbiStream(logits.shape[1], smoothing)
    state, found = decoder.initial_state(), []
    for t, row in enumerate(logits):
        before = state.decided
        _, state = decoder.step(row[None], state)
        found += [t - i for i in range(before, state.decided)]
    return torch.tensor(found)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="LibriSpeech's folder")
    parser.add_argument("--alignments", required=True, help="folder with <subset>.phones.ctm or another form")
    parser.add_argument("--subset", default="train-clean-100", help="its validation speakers choose the settings")
    parser.add_argument("--test-subset", default="test-other", dest="test_subset")
    parser.add_argument("--valid-fraction", type=float, default=0.1, dest="valid_fraction")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="a saved frame classifier; else the shipped one")
    parser.add_argument("--recording", help="a long sound file without a reference")
    parser.add_argument("--cost", type=float, default=3.0, help="of the tables after the first")
    parser.add_argument("--min-frames", type=int, default=1, dest="min_frames")
    return parser.parse_args()


if __name__ == "__main__":
    main()

"""Draw docs/pictures/phones.png: one real sentence with its reference phones and those of a saved model.

    python scripts/draw_phones.py LIBRISPEECH --subset test-clean --alignments DIR [--utterance ID] [--model DIR]

LIBRISPEECH is a folder in LibriSpeech layout. Without --model it is the model that speechattn brings; its training
speakers are from train-clean-100, so those of test-clean are new to it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import speechattn as sa
from speechattn.data.labelled_corpus import load_corpus
from speechattn.plots.alignment import phone_strips
from speechattn.plots.style import DPI
from speechattn.training.dataset import read_examples
from speechattn.training.report_sections.examples import example_title
from speechattn.training.report_sections.frames import predict
from speechattn.training.tasks.frames import FrameTask

UTTERANCE = "1089-134686-0001"
MODEL = "small-en-phones"


def main() -> None:
    """Draw the picture that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="LIBRISPEECH")
    parser.add_argument("--subset", default="test-clean")
    parser.add_argument("--alignments", required=True, metavar="DIR")
    parser.add_argument("--utterance", default=UTTERANCE, metavar="ID", help=f"default {UTTERANCE}")
    parser.add_argument("--model", metavar="DIR", help=f"default: {MODEL}")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/phones.png"), metavar="FILE")
    options = parser.parse_args()
    model = sa.load(options.model) if options.model else sa.load_pretrained(MODEL)
    corpus = load_corpus(options.data, options.subset, options.alignments, model.config.classes)
    corpus.utterances = [item for item in corpus.utterances if item.id == options.utterance]
    if not corpus.utterances:
        parser.error(f"{options.subset} has no utterance {options.utterance} with an alignment")
    (example,) = read_examples(corpus, model.frontend, FrameTask(model.config.classes))
    labels, title = predict(model, example), example_title(example)
    log_mel = model.frontend.to_log_mel(example.frames)
    figure = phone_strips(log_mel, model.config.framing, labels.reference, labels.predicted, title, model.config.flavor)
    figure.savefig(options.out, dpi=DPI, metadata={"Software": None})
    print(f"{options.out}: {title}, {example.num_frames} frames")


if __name__ == "__main__":
    main()

"""The labels that the first acoustic model is trained on: those of synthetic speech, or a flat start."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from speechattn.alignment.acoustic_model import Example
from speechattn.alignment.recordings import Recording
from speechattn.data.labelled_corpus import load_corpus
from speechattn.data.labels.classes import PHONES
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.synthetic.corpus import default_cache, synthesize_corpus
from speechattn.frontend.logmel import LogMel


def synthetic_examples(frontend: LogMel) -> list[Example]:
    """Return frames and labels of the synthetic corpus, which is made if the cache has none.

    Raises:
        UserError: espeak-ng is not installed.
    """
    folder = synthesize_corpus(default_cache())
    examples = []
    with torch.inference_mode():
        for item, waveform in load_corpus(folder, "train", folder / "alignments").waveforms():
            frames, _ = frontend(waveform[None])
            examples.append((frames[0].clone(), frame_labels(item.segments, len(waveform), frontend.framing)))
    return examples


def flat_labels(recordings: Sequence[Recording]) -> list[Example]:
    """Return the frames of `recordings` with the phones of each transcript spread evenly over them."""
    examples = []
    for recording in recordings:
        phones = [
            PHONES.index(phone) for word in recording.sentence.words for phone in recording.sentence.lexicon[word][0]
        ]
        sequence = torch.tensor([0, *phones, 0])
        positions = torch.arange(len(recording.frames)) * len(sequence) // len(recording.frames)
        examples.append((recording.frames, sequence[positions]))
    return examples

"""The labels that the first acoustic model is trained on: those of synthetic speech, or a flat start."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from speechattn.alignment.acoustic_model import Example
from speechattn.alignment.batch_alignment import Recording
from speechattn.data.labelled_corpus import load_corpus
from speechattn.data.labels.classes import PHONES
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.synthetic.corpus import synthesize_corpus
from speechattn.frontend.logmel import LogMel
from speechattn.system import cache_folder

QUIET = 0.3
"""Share of the range of levels that is silence in a flat start."""


def synthetic_examples(frontend: LogMel) -> list[Example]:
    """Return frames and labels of the synthetic corpus, which is made if the cache has none.

    Raises:
        UserError: espeak-ng is not installed.
    """
    folder = synthesize_corpus(cache_folder.default_cache())
    examples = []
    with torch.inference_mode():
        for item, waveform in load_corpus(folder, "train", folder / "alignments").waveforms():
            frames, _ = frontend(waveform[None])
            examples.append((frames[0].clone(), frame_labels(item.segments, len(waveform), frontend.framing)))
    return examples


def flat_labels(recordings: Sequence[Recording]) -> list[Example]:
    """Return the frames of `recordings` with the first pronunciation of each word, spread evenly over loud frames.

    A frame is loud if its mean log-mel is above QUIET of the way from the tenth percentile of the recording to the
    95th; the others are silence.
    """
    examples = []
    for recording in recordings:
        sentence = recording.sentence
        phones = [PHONES.index(phone) for word in sentence.words for phone in sentence.lexicon[word][0]]
        level = recording.frames.mean(1)
        low, high = level.quantile(torch.tensor([0.1, 0.95]))
        loud = level > low + QUIET * (high - low)
        turn = (loud.cumsum(0) - 1).clamp(min=0) * len(phones) // max(1, int(loud.sum()))
        examples.append((recording.frames, torch.where(loud, torch.tensor(phones)[turn], 0)))
    return examples

"""Alignment of one recording with its transcript, with a model that is there already: seconds instead of minutes."""

from __future__ import annotations

from pathlib import Path

from speechattn.alignment.pronunciations import Pronunciations
from speechattn.alignment.rounds import align_part
from speechattn.alignment.sentences import read_sentences
from speechattn.alignment.store import load_round
from speechattn.alignment.times import AlignedUtterance
from speechattn.alignment.transcripts import transcript_words
from speechattn.data.labels.segments import Utterance
from speechattn.errors import DataError


def align_recording(audio: Path, transcript: str, model: Path, pronounce: Pronunciations) -> AlignedUtterance:
    """Return the phones and words of a sound file; `model` is a folder that `find_model` returns.

    Raises:
        DataError: the transcript has no words or one without pronunciation, the file cannot be decoded or is shorter
            than its phones, or there is no model.
    """
    loaded = load_round(model)
    if loaded is None:
        raise DataError(f"{model} holds no acoustic model of an alignment, or a damaged one.")
    utterance = Utterance(audio.stem, audio.stem, audio, transcript)
    sentences, excluded = read_sentences([utterance], transcript_words, pronounce)
    part = align_part(sentences, *loaded)
    for reason in (excluded | part.excluded).values():
        advice = "; write it with its phones into a file, as 'hello HH AH L OW', and give it with --lexicon FILE"
        raise DataError(f"{audio}: {reason.removesuffix('.')}{advice * reason.startswith('no pronunciation')}.")
    return part.aligned[utterance.id]

"""The recording that draw_lecture.py draws: the first seconds of a sound file, or a sentence of espeak-ng's voice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import speechattn as sa
from speechattn.data.labels.ctm import read_ctm
from speechattn.data.labels.frame_labels import labels_to_segments
from speechattn.data.labels.segments import Segment, cut_segments

MAX_SECONDS = 5.0
FRAMING = sa.Framing()
RATE = FRAMING.sample_rate


@dataclass(frozen=True)
class Recording:
    """A waveform [N], its log-mel frames [T, F], and its phones and words in seconds; `name` goes into titles."""

    waveform: Tensor
    frames: Tensor
    phones: list[Segment]
    words: list[Segment]
    name: str


def read(path: Path, alignments: Path | None) -> Recording:
    """Return the first seconds of a recording; phones without `alignments` are those of the pretrained model."""
    waveform = sa.load_audio(path)[0][: round(MAX_SECONDS * RATE)]
    seconds = len(waveform) / RATE
    if alignments is None:
        return Recording(waveform, log_mel(waveform), phones_by_model(waveform), [], path.stem)
    phones, words = (read_segments(path, alignments, kind, seconds) for kind in ("phones", "words"))
    words = [word for word in words if word.label not in ("", "SIL", "<sil>")]
    sentence = " ".join(word.label for word in words).lower()
    return Recording(
        waveform,
        log_mel(waveform),
        phones,
        words,
        f"\N{LEFT DOUBLE QUOTATION MARK}{sentence}\N{RIGHT DOUBLE QUOTATION MARK}",
    )


def read_segments(path: Path, alignments: Path, kind: str, seconds: float) -> list[Segment]:
    """Return the "phones" or "words" of a recording in LibriSpeech layout, without what lies after `seconds`."""
    ctm = alignments / f"{path.resolve().parents[2].name}.{kind}.ctm"
    segments = read_ctm(ctm).get(path.stem)
    if segments is None:
        raise sa.UserError(f"{ctm} has no utterance {path.stem}: leave out --alignments to use the model's phones.")
    return cut_segments(segments, seconds)


def synthetic() -> Recording:
    """Return a sentence in the voice of espeak-ng."""
    from draw_convolution import SENTENCE, say  # an extra, which a FILE does without

    waveform, phones = say()
    return Recording(waveform, log_mel(waveform), phones, [], f"espeak-ng: {SENTENCE}")


def log_mel(waveform: Tensor) -> Tensor:
    """Return frames [T, 40] of a waveform [N]."""
    frames: Tensor = sa.LogMel(num_mels=40)(waveform[None])[0][0]
    return frames


def phones_by_model(waveform: Tensor) -> list[Segment]:
    """Return the phones that the pretrained model finds in a waveform [N]."""
    model = sa.load_pretrained("small-en-phones")
    logits, _ = model(waveform[None])
    config = model.config
    return labels_to_segments(logits[0].argmax(-1), config.framing, config.classes, len(waveform))

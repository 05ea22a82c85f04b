"""Pictures of aligned utterances, and their agreement with other alignments, for `speechattn align`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch

from speechattn.alignment.agreement import compare_alignments
from speechattn.alignment.settings import AlignSettings
from speechattn.data.audio.files import load_audio
from speechattn.data.labels.alignments import load_alignments
from speechattn.data.labels.ctm import read_ctm
from speechattn.data.labels.segments import Segment
from speechattn.data.recordings import open_recordings
from speechattn.errors import UserError
from speechattn.frontend.logmel import LogMel
from speechattn.plots.boundaries import phone_boundaries
from speechattn.system.atomic_files import write_bytes
from speechattn.system.stop_signal import StopSignal

NUM_MELS = 64
"""Bins of the spectrogram in a picture."""
TITLE_WORDS = 14
"""Words of the sentence in a title."""


def compare(out: str, subset: str, reference: str) -> None:
    """Print the agreement of a subset with other alignments: frames, and starts of equal phones."""
    ours, theirs = load_alignments(out, subset), load_alignments(reference, subset, damaged={})
    both = [id for id in theirs if id in ours]
    if not both:
        raise UserError(f"--reference {reference} has no utterance of {subset} that was aligned.")
    found = compare_alignments((ours[id].segments, theirs[id].segments) for id in both)
    print(
        f"{subset}: {len(both)} utterances of {reference}: {found.frame_share:.1%} of the frames equal, starts of "
        f"equal phones within 20 ms {found.within(20):.1%}, within 50 ms {found.within(50):.1%}"
    )


def draw(settings: AlignSettings, given: str, subset: str, count: int, reference: str | None, stop: StopSignal) -> None:
    """Write <out>/pictures/<utterance>.png for `count` utterances, spread over the scores, the worst included.

    `given` is the subset as the user wrote it, and `subset` the name of its alignments.
    """
    if not count:
        return
    out = Path(settings.out)
    rows = [
        line.split("\t") for line in (out / f"{subset}.scores.tsv").read_text("utf-8", "surrogateescape").splitlines()
    ]
    ranked = [id for _, id in sorted((float(score), id) for id, score, _, status in rows[1:] if status == "aligned")]
    count = min(count, len(ranked))
    chosen = [ranked[round(i * (len(ranked) - 1) / max(1, count - 1))] for i in range(count)]
    phones, words = read_ctm(out / f"{subset}.phones.ctm"), read_ctm(out / f"{subset}.words.ctm")
    others = {} if reference is None else load_alignments(reference, subset, damaged={})
    utterances = {utterance.id: utterance for utterance in open_recordings(settings.data, given)}
    (out / "pictures").mkdir(exist_ok=True)
    for id in dict.fromkeys(chosen):
        stop.poll()
        utterance, path = utterances[id], out / "pictures" / f"{id}.png"
        theirs = others[id].segments if id in others else ()
        write_picture(path, utterance.path, phones[id], words.get(id, []), theirs, f" (speaker {utterance.speaker})")
        print(path)


def write_picture(
    path: Path,
    audio: Path,
    phones: Sequence[Segment],
    words: Sequence[Segment],
    reference: Sequence[Segment] = (),
    speaker: str = "",
) -> None:
    """Write a PNG of one recording with its phones and words; the first words and `speaker` are the title."""
    spoken = [word.label for word in words]
    title = " ".join(spoken[:TITLE_WORDS]) + (" ..." if len(spoken) > TITLE_WORDS else "") + speaker
    frontend = LogMel(NUM_MELS)
    waveform, _ = load_audio(audio, frontend.framing.sample_rate)
    with torch.inference_mode():
        frames, _ = frontend(waveform[None])
    figure = phone_boundaries(frames[0], frontend.framing, phones, words, reference, title)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(path, buffer.getvalue())

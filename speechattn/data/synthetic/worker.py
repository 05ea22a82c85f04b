"""One worker process of the synthetic corpus, which writes the files of its share of the speakers.

It is a process of its own because espeak-ng has global state, and because a program that has loaded torch should not
fork: ``python -m speechattn.data.synthetic.worker FOLDER INDEX OF CONFIG_JSON``. It prints one line, `utterance
seconds`, for each file, and ends when its output is closed.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from speechattn.data.synthetic.arpabet import Phone
from speechattn.data.synthetic.config import SUBSETS, SyntheticConfig
from speechattn.data.synthetic.espeak import Engine, require_espeak
from speechattn.data.synthetic.sentences import sentences
from speechattn.data.synthetic.voices import SAMPLE_RATE, Voice, record, voices
from speechattn.data.synthetic.worker_pool import CANNOT_SPEAK, CANNOT_WRITE
from speechattn.errors import UserError


class SpeakerTexts(NamedTuple):
    """The sentences that one speaker reads."""

    subset: str
    voice: Voice
    texts: list[str]


def speaker_texts(config: SyntheticConfig) -> list[SpeakerTexts]:
    """Return the sentences of every speaker. Test comes first: more training data does not change its texts."""
    texts = sentences(config.test_utterances + config.train_utterances, config.seed)
    parts = {"test": texts[: config.test_utterances], "train": texts[config.test_utterances :]}
    speakers = {"test": config.test_speakers, "train": config.train_speakers}
    found = []
    for subset in SUBSETS:
        count = min(speakers[subset], len(parts[subset]))
        for index, voice in enumerate(voices(subset, count, config.seed)):
            found.append(SpeakerTexts(subset, voice, parts[subset][index::count]))
    return found


def synthesize_speaker(folder: Path, speaker: SpeakerTexts, engine: Engine, seed: int, part: int) -> None:
    """Write one speaker's chapter, and append its lines to this worker's part of the alignments."""
    subset, voice, texts = speaker
    chapter = folder / "LibriSpeech" / subset / str(voice.id) / "1"
    chapter.mkdir(parents=True)
    transcripts, phone_lines, word_lines = [], [], []
    for number, text in enumerate(texts):
        utterance = f"{voice.id}-1-{number:04d}"
        speech = engine.speak(text, voice.name, voice.rate, voice.pitch, voice.pitch_range, voice.word_gap)
        recording = record(speech, voice, np.random.default_rng([seed, voice.id, number]))
        soundfile.write(chapter / f"{utterance}.flac", recording.waveform, SAMPLE_RATE, subtype="PCM_16")
        transcripts.append(f"{utterance} {_plain_text(text).upper()}\n")
        phone_lines += [_ctm(utterance, phone.start, phone.stop, phone.label) for phone in recording.phones]
        word_lines += _words(utterance, recording.phones, text)
        os.write(1, f"{utterance} {len(recording.waveform) / SAMPLE_RATE}\n".encode())  # one write, which is atomic
    _append(chapter / f"{voice.id}-1.trans.txt", transcripts)
    _append(folder / "alignments" / f"{subset}.phones.ctm.{part}", phone_lines)
    _append(folder / "alignments" / f"{subset}.words.ctm.{part}", word_lines)


def _ctm(utterance: str, start_ms: int, stop_ms: int, label: str) -> str:
    """Return a line of a CTM file."""
    return f"{utterance} 1 {start_ms / 1000:.3f} {(stop_ms - start_ms) / 1000:.3f} {label}\n"


def _words(utterance: str, phones: list[Phone], text: str) -> list[str]:
    """Return CTM lines of the words, found by their positions in the text (from 1); silence is <sil>.

    espeak-ng reads some pairs as one word ("of the"): they share a line, as of_the.
    """
    positions = sorted({phone.word for phone in phones if phone.word})
    ends = dict(zip(positions, [*positions[1:], len(text) + 1], strict=True))
    lines = []
    for word, group in groupby(phones, key=lambda phone: phone.word):
        span = list(group)
        label = "_".join(_plain_text(text[word - 1 : ends[word] - 1]).split()) if word else "<sil>"
        lines.append(_ctm(utterance, span[0].start, span[-1].stop, label))
    return lines


def _plain_text(text: str) -> str:
    """Return the text in lower case, without punctuation."""
    return "".join(letter for letter in text.lower() if letter.isalpha() or letter == " ").strip()


def _append(path: Path, lines: list[str]) -> None:
    with path.open("a", encoding="ascii", newline="\n") as file:
        file.writelines(lines)


def main(folder: str, index: str, of: str, config_json: str) -> None:
    """Synthesize every `of`-th speaker from the `index`-th on, with one new engine."""
    config = SyntheticConfig(**json.loads(config_json))
    try:
        os.chdir(str(require_espeak().__path__[0]))  # next to its data, for the library limits the length of their path
        engine = Engine()
        for speaker in speaker_texts(config)[int(index) :: int(of)]:
            synthesize_speaker(Path(folder), speaker, engine, config.seed, part=int(index))
    except (OSError, UserError) as error:  # a full disk or a closed output; or no voices
        sys.stderr.write(f"{error}\n")
        sys.exit(CANNOT_WRITE if isinstance(error, OSError) else CANNOT_SPEAK)


if __name__ == "__main__":
    main(*sys.argv[1:])

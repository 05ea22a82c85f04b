"""The process that speaks a corpus of words: `python -m speechattn.data.synthetic.spoken_words_worker FOLDER CONFIG`.

It is a process of its own because espeak-ng has global state. It prints "file" for each file that it has written.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from speechattn.data.synthetic.arpabet import SILENCE
from speechattn.data.synthetic.config import SUBSETS
from speechattn.data.synthetic.espeak import Engine, require_espeak
from speechattn.data.synthetic.spoken_words import SpokenWordsConfig
from speechattn.data.synthetic.voices import SAMPLE_RATE, Recording, Voice, record, voices
from speechattn.data.synthetic.worker_pool import CANNOT_SPEAK, CANNOT_WRITE
from speechattn.errors import UserError

MARGIN_MS = (20, 120)
"""Shortest and longest silence that stays before and after a word."""


def vary(voice: Voice, random: np.random.Generator) -> Voice:
    """Return the voice at another pace, pitch and melody, as a speaker's next take is."""
    return replace(
        voice,
        rate=round(voice.rate * random.uniform(0.8, 1.2)),
        pitch=int(np.clip(voice.pitch + random.integers(-8, 9), 0, 99)),
        pitch_range=int(np.clip(voice.pitch_range + random.integers(-15, 16), 0, 99)),
    )


def cut(recording: Recording, random: np.random.Generator) -> NDArray[np.float32]:
    """Return a recording with 20 to 120 ms before and after its first and last phone that is not silence."""
    spoken = [phone for phone in recording.phones if phone.label != SILENCE]
    before, after = (int(ms) for ms in random.integers(MARGIN_MS[0], MARGIN_MS[1] + 1, size=2))
    first, last = max(0, spoken[0].start - before), spoken[-1].stop + after
    return recording.waveform[first * SAMPLE_RATE // 1000 : last * SAMPLE_RATE // 1000]


def synthesize(folder: Path, config: SpokenWordsConfig, engine: Engine) -> None:
    """Write all files, in an order that does not depend on the machine."""
    counts = {"train": config.train_speakers, "test": config.test_speakers}
    for subset in SUBSETS:
        for voice in voices(subset, counts[subset], config.seed):
            for index, (word, name) in enumerate(zip(config.words, config.names, strict=True)):
                place = folder / subset / name / str(voice.id)
                place.mkdir(parents=True)
                for take in range(config.takes):
                    random = np.random.default_rng([config.seed, voice.id, index, take])
                    other = vary(voice, random)
                    speech = engine.speak(word, other.name, other.rate, other.pitch, other.pitch_range, other.word_gap)
                    waveform = cut(record(speech, other, random), random)
                    resampled = soxr.resample(waveform, SAMPLE_RATE, config.sample_rate)
                    soundfile.write(place / f"{take}.flac", resampled, config.sample_rate, subtype="PCM_16")
                    print("file", flush=True)


def main(folder: str, config_json: str) -> None:
    """Write the corpus into `folder`."""
    settings = json.loads(config_json)
    config = SpokenWordsConfig(**{**settings, "words": tuple(settings["words"]), "names": tuple(settings["names"])})
    try:
        os.chdir(str(require_espeak().__path__[0]))  # next to its data, for the library limits the length of their path
        synthesize(Path(folder), config, Engine())
    except (OSError, UserError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(CANNOT_WRITE if isinstance(error, OSError) else CANNOT_SPEAK)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Synthetic speakers: a voice of espeak-ng with its own vocal tract, room and microphone.

The audio of espeak-ng alone is too uniform, and its silence is zeros. Each speaker here adds a pace and a pitch,
another length of the vocal tract (by resampling), a tilted spectrum, a small room and a noise floor. Labels stay valid:
the filters have no delay, and times are scaled with the audio.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from speechattn.data.synthetic.arpabet import ACCENTS, SILENCE, Phone
from speechattn.data.synthetic.espeak import SynthesizedSpeech
from speechattn.framing import Framing

SAMPLE_RATE = Framing().sample_rate

# Variants of espeak-ng that sound human: no robots, whisper or strong echo. Near copies (steph and steph2) are on one
# side, so that the voices of test are new.
_FEMALE = {
    "train": "f2 f3 f5 anika steph steph2 steph3 shelby",
    "test": "f1 f4 grandma Andrea Annie aunty belinda linda",
}
_MALE = {
    "train": """klatt Alex Andy Reed Lee Denis Gene klatt6 Jacky Mario gustave adam pedro boris iven Hugo Storm john
        edward grandpa m2 m4 max Mike sandro kaukovalta michel Gene2 Michael iven2 iven3 norbert""",
    "test": """m1 m6 m7 m8 Nguyen ed ian marcelo robert quincy victor travis croak
        klatt4 klatt5 benjamin david mike2""",
}
_FIRST_ID = {"train": 10001, "test": 20001}


@dataclass(frozen=True)
class Voice:
    """One speaker. Fields up to word_gap are parameters of espeak-ng, the others of the processing after it."""

    id: int
    sex: str  # "F" or "M"
    name: str  # accent and variant, such as "en-us+f3"
    rate: int  # words a minute
    pitch: int  # 0 to 99; 50 is the variant's own
    pitch_range: int
    word_gap: int  # about 10 ms each
    speed: float  # of playback: above 1 is a shorter vocal tract, a higher pitch and a faster pace
    tilt_db: float  # per octave, around 1 kHz
    room_s: float  # time in which the room's echo falls by 60 dB
    room_db: float  # level of the whole echo against the direct sound
    snr_db: float
    noise_tilt_db: float  # per octave: 0 is white, -3 pink
    level_db: float  # of the speech, against full scale


class Recording(NamedTuple):
    """Audio [N] float32 at 16 kHz, N a whole number of milliseconds, and phones whose times are in milliseconds."""

    waveform: NDArray[np.float32]
    phones: list[Phone]


def voices(subset: str, count: int, seed: int) -> list[Voice]:
    """Return `count` speakers for "train" or "test", which share no variant of espeak-ng, so no voice.

    Examples:
        >>> [voice.name for voice in voices("test", count=3, seed=0)]
        ['en-us+f1', 'en-gb-x-rp+m1', 'en-us+m6']
    """
    random = np.random.default_rng([seed, _FIRST_ID[subset]])
    female, male = _FEMALE[subset].split(), _MALE[subset].split()
    made = []
    for index in range(count):
        sex = "F" if index % 3 == 0 else "M"
        variants = female if sex == "F" else male
        variant = variants[(index // 3 if sex == "F" else index - index // 3 - 1) % len(variants)]
        # Half of them American, as in LibriSpeech; the other accents alternate.
        accent = ACCENTS[0] if index % 2 == 0 else ("en-gb-x-rp", "en-us-nyc", "en-gb-scotland")[index // 2 % 3]
        made.append(
            Voice(
                id=_FIRST_ID[subset] + index,
                sex=sex,
                name=f"{accent}+{variant}",
                rate=int(random.integers(145, 205)),
                pitch=int(random.integers(35, 66)),
                pitch_range=int(random.integers(30, 71)),
                word_gap=int(random.choice([0, 0, 0, 1, 2])),
                speed=float(random.uniform(0.90, 1.12)),
                tilt_db=float(random.uniform(-3, 3)),
                room_s=float(random.uniform(0.08, 0.35)),
                room_db=float(random.uniform(-25, -6)),
                snr_db=float(random.uniform(15, 45)),
                noise_tilt_db=float(random.uniform(-5, 0)),
                level_db=float(random.uniform(-33, -18)),
            )
        )
    return made


def record(speech: SynthesizedSpeech, voice: Voice, random: np.random.Generator) -> Recording:
    """Return `speech` in the voice, room and noise of `voice`, with 0.1 to 0.5 s of room noise before and after it."""
    first = next(index for index, phone in enumerate(speech.phones) if phone.label != SILENCE)
    last = max(index for index, phone in enumerate(speech.phones) if phone.label != SILENCE)
    begin, end = speech.phones[first].start, speech.phones[last].stop
    rate = speech.sample_rate * voice.speed
    resampled = soxr.resample(speech.waveform[begin:end], rate, SAMPLE_RATE)
    lead_ms, tail_ms = (int(ms) for ms in random.integers(100, 501, size=2))
    speech_ms = round(1000 * (end - begin) / rate)
    total_ms = lead_ms + speech_ms + tail_ms

    dry = np.zeros(total_ms * SAMPLE_RATE // 1000, np.float32)
    start = lead_ms * SAMPLE_RATE // 1000
    dry[start : start + len(resampled)] = resampled

    phones = [Phone(0, lead_ms, SILENCE, 0)]
    for phone in speech.phones[first : last + 1]:
        stop = lead_ms + round(1000 * (phone.stop - begin) / rate)
        if stop > phones[-1].stop:
            phones.append(Phone(phones[-1].stop, stop, phone.label, phone.word))
    phones.append(Phone(phones[-1].stop, total_ms, SILENCE, 0))
    return Recording(_add_room_and_noise(dry, voice, random), phones)


def _add_room_and_noise(dry: NDArray[np.float32], voice: Voice, random: np.random.Generator) -> NDArray[np.float32]:
    """Return `dry` [N] with tilt, echo and a noise floor, at the speaker's level; the direct sound has no delay."""
    size = 1 << (len(dry) + round(voice.room_s * SAMPLE_RATE)).bit_length()  # the echo does not wrap around
    octaves = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 125) / 1000)

    time_s = np.arange(1, round(voice.room_s * SAMPLE_RATE)) / SAMPLE_RATE
    echo = random.standard_normal(len(time_s)) * 10 ** (-3 * time_s / voice.room_s)
    echo *= 10 ** (voice.room_db / 20) / np.linalg.norm(echo)
    path = np.fft.rfft(np.concatenate([[1.0], echo]), size) * 10 ** (voice.tilt_db * octaves / 20)
    wet = np.fft.irfft(np.fft.rfft(dry, size) * path, size)[: len(dry)]
    wet /= np.sqrt(np.sum(np.square(wet)) / np.count_nonzero(dry))  # speech alone has power 1: pauses are zeros

    shape = 10 ** (voice.noise_tilt_db * octaves / 20)
    noise = np.fft.irfft(shape * np.exp(2j * np.pi * random.random(len(shape))), size)[: len(dry)]
    noise *= 10 ** (-voice.snr_db / 20) / np.sqrt(np.mean(np.square(noise)))

    mixed = (wet + noise) * 10 ** (voice.level_db / 20)
    mixed *= min(1.0, 0.99 / float(np.abs(mixed).max()))
    return mixed.astype(np.float32)

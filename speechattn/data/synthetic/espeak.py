"""The espeak-ng engine through ctypes: text to audio with exact phone times.

espeak-ng is a formant synthesiser that reports the sample at which each phone begins. The library is in the wheel
`espeakng-loader` (GPL-3.0: an optional extra, loaded at run time, never copied). arpabet.py converts its phones to
labels; voices.py adds speakers and noise.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechattn.data.synthetic.arpabet import ACCENTS, Mark, Phone, phones
from speechattn.errors import UserError

_SYNCHRONOUS, _REPORT_PHONES, _DO_NOT_EXIT = 2, 0x0001, 0x8000
_FROM_CHARACTER, _UTF8, _END_PAUSE = 1, 1, 0x1000
_SEPARATOR = "|"  # between mnemonics; as part of one it has no meaning here
_WORD, _PHONEME = 1, 7  # types of events; 0 ends a list
_RATE, _PITCH, _RANGE, _WORD_GAP = 1, 3, 4, 7  # parameters
_MAX_PATH = 160  # N_PATH_HOME of the library, the closing zero included


class _Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # of a word, in characters, from 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("mnemonic", ctypes.c_char * 8),  # a union; maybe without a closing zero
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class SynthesizedSpeech(NamedTuple):
    """Audio [N] float32 in [-1, 1] at `sample_rate` Hz, and the phones that cover it without a gap."""

    waveform: NDArray[np.float32]
    sample_rate: int
    phones: list[Phone]


def require_espeak() -> ModuleType:
    """Return the module `espeakng_loader`, or raise UserError with the command that installs it."""
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError as error:
        raise UserError(
            "Synthetic speech needs espeak-ng, which is not installed. Type: pip install espeakng-loader "
            "(or use real speech, which does not need it)."
        ) from error


def engine_version() -> str:
    """Return the version of the espeak-ng library, such as "1.52.0", without starting the engine."""
    library, _ = _load()
    return bytes(library.espeak_Info(None)).decode()


def _load() -> tuple[ctypes.CDLL, str]:
    """Return the library and the path of its data, both from the wheel."""
    loader = require_espeak()
    try:
        library = ctypes.CDLL(loader.get_library_path())
        data_path = str(loader.get_data_path())
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"espeak-ng is installed but does not load ({error}). Type: pip install --force-reinstall espeakng-loader"
        ) from error
    library.espeak_Info.restype = ctypes.c_char_p
    return library, data_path


class Engine:
    """The espeak-ng engine. The library has global state: make at most one Engine in a process.

    Its state makes the audio of a sentence depend on the sentences before it: labels are valid only for the audio of
    the same call. Two new processes that speak the same sentences in the same order give the same audio.
    """

    def __init__(self) -> None:
        self._library, data_path = _load()
        self._variants = Path(data_path) / "voices" / "!v"
        if len(data_path) >= _MAX_PATH:
            data_path = os.path.relpath(data_path)
        options = _REPORT_PHONES | _DO_NOT_EXIT
        self._sample_rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, data_path.encode(), options))
        if self._sample_rate <= 0:
            raise UserError(
                f"espeak-ng found no voices in {data_path}, whose path may have {_MAX_PATH - 1} characters: "
                "install espeakng-loader again, or in a folder that is not as deep."
            )
        self._library.espeak_ng_SetRandSeed(1)  # the default seed is the clock, and breathy voices use it
        self._blocks: list[NDArray[np.int16]] = []
        self._marks: list[Mark] = []
        self._word = 0
        self._callback = _Callback(self._receive)  # a reference, for the library calls it later
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, text: str, voice: str, rate: int, pitch: int, pitch_range: int, word_gap: int) -> SynthesizedSpeech:
        """Read `text` (ASCII) with `voice`, an accent and a variant such as "en-us+f3".

        `rate` is in words a minute, `pitch` and `pitch_range` go from 0 to 99 (50 is the variant's own), `word_gap`
        is a pause between words in units of about 10 ms.
        """
        accent, _, variant = voice.partition("+")
        if accent not in ACCENTS or (variant and not (self._variants / variant).is_file()):
            # The library accepts an unknown variant without an error, and uses the default one.
            raise ValueError(f"espeak-ng has no voice {voice!r}; expected an accent of {ACCENTS} and a known variant.")
        self._blocks, self._marks, self._word = [], [], 0
        self._check(self._library.espeak_SetVoiceByName(voice.encode()), f"voice {voice!r}")  # resets the parameters
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range), (_WORD_GAP, word_gap)):
            self._check(self._library.espeak_SetParameter(parameter, value, 0), f"value {value}")
        data = text.encode("ascii")
        flags = _UTF8 | _END_PAUSE
        self._check(self._library.espeak_Synth(data, len(data) + 1, 0, _FROM_CHARACTER, 0, flags, None, None), "text")
        waveform: NDArray[np.float32] = np.concatenate(self._blocks).astype(np.float32) / np.float32(32768)
        return SynthesizedSpeech(waveform, self._sample_rate, phones(self._marks, waveform, self._sample_rate, accent))

    def mnemonics(self, text: str, accent: str) -> list[str]:
        """Return the engine's phones of `text` with their stress signs, without making audio.

        Mnemonics of pauses begin with an underscore.
        """
        self._check(self._library.espeak_SetVoiceByName(accent.encode()), f"voice {accent!r}")
        convert = self._library.espeak_TextToPhonemes
        convert.restype = ctypes.c_char_p
        rest = ctypes.c_char_p(text.encode())
        found: list[str] = []
        while rest.value:  # the library moves the pointer behind each clause, and sets it to null at the end
            phones = convert(ctypes.byref(rest), _UTF8, ord(_SEPARATOR) << 8) or b""
            found += [mnemonic for word in phones.decode().split() for mnemonic in word.split(_SEPARATOR) if mnemonic]
        return found

    def _check(self, status: int, what: str) -> None:
        if status != 0:
            raise RuntimeError(f"espeak-ng refused the {what} (status {status}).")

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        """Take a block of audio and its events, as the library's callback; 0 asks for more."""
        if samples and count:
            self._blocks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while (event := events[index]).type != 0:
            index += 1
            if event.type == _WORD:
                self._word = event.text_position
            elif event.type == _PHONEME:
                raw = ctypes.string_at(ctypes.addressof(event) + _Event.mnemonic.offset, 8)
                self._marks.append(Mark(event.sample, raw.split(b"\0")[0].decode(), self._word))
        return 0

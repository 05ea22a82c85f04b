"""A folder of sound files as a source of noise: a piece of any length, the same one for the same generator.

All sound files in the folder and below it are used, in order of name; text and pictures (licences, lists) are skipped,
and damaged sound files are named in a warning. A file is read when a piece is cut from it, so that a large collection
such as MUSAN takes no memory. A file is known by its name and its number of samples: one that is exchanged for another
of the same name and length between two runs changes the noise and is not noticed. Mixing is in waveforms.py.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from speechattn.data.audio.errors import AudioError, AudioWarning
from speechattn.data.audio.files import SAMPLE_RATE, audio_samples, load_audio
from speechattn.data.audio.source import SOUND_SUFFIXES
from speechattn.errors import DataError
from speechattn.system.folders import files_below


class NoisePiece(NamedTuple):
    """Samples [N] of noise and their origin: the path of a file below the folder, and the first sample taken."""

    waveform: Tensor
    name: str
    start: int


class NoiseFolder:
    """Sound files below `folder`, at `sample_rate` Hz; `sizes` has the number of samples of each, by path below it.

    Raises:
        DataError: the folder does not exist, or holds no sound (what was found instead is named).
    """

    def __init__(self, folder: str | Path, sample_rate: int = SAMPLE_RATE) -> None:
        self.folder, self.sample_rate = Path(folder), sample_rate
        if not self.folder.is_dir():
            raise DataError(f"{folder} is not a folder: give a folder of sound files (wav, flac, ogg, mp3).")
        self.sizes: dict[str, int] = {}
        skipped: list[str] = []
        damaged: list[str] = []
        paths = files_below(self.folder)
        for name in sorted(path.relative_to(self.folder).as_posix() for path in paths):
            try:
                samples = audio_samples(self.folder / name, sample_rate)
            except AudioError as error:
                # Files of other names are tried too, and may be anything.
                (damaged if name.lower().endswith(SOUND_SUFFIXES) else skipped).append(f"{name} ({error.reason})")
                continue
            if samples:
                self.sizes[name] = samples
            else:
                skipped.append(f"{name} (no samples)")
        if not self.sizes:
            found = ", ".join([*damaged, *skipped][:5]) or "nothing"
            raise DataError(f"{folder} holds no sound to take noise from, found {found}. Give a folder of sound files.")
        if damaged:
            names = ", ".join(damaged[:10]) + (", ..." if len(damaged) > 10 else "")
            warnings.warn(f"{folder}: {len(damaged)} sound files cannot be used as noise: {names}.", AudioWarning, 2)
        self._names = list(self.sizes)

    def __len__(self) -> int:
        """Return the number of sound files."""
        return len(self._names)

    def cut(self, num_samples: int, generator: torch.Generator) -> NoisePiece:
        """Return `num_samples` samples from a random place in one file, all files equally likely.

        A file that is too short is repeated; a piece of a longer one never crosses the file's end.

        Raises:
            ValueError: num_samples is negative.
            AudioError: the file is damaged; it is named, and must be repaired or removed.
        """
        if num_samples < 0:
            raise ValueError(f"num_samples must be 0 or more, got {num_samples}.")
        name = self._names[_draw(len(self._names), generator)]
        try:
            waveform, _ = load_audio(self.folder / name, self.sample_rate)
        except AudioError as error:
            message = f"{error} Repair it, or remove it from the folder of noise."
            raise AudioError(message, error.path, error.reason) from error
        size = len(waveform)
        start = _draw(size - num_samples + 1 if size >= num_samples else size, generator)
        if start + num_samples > size:
            waveform = waveform.roll(-start).repeat(-(-num_samples // size))[:num_samples]
        else:
            waveform = waveform[start : start + num_samples]
        return NoisePiece(waveform, name, start)


def _draw(limit: int, generator: torch.Generator) -> int:
    """Return a whole number in [0, limit)."""
    return int(torch.randint(limit, (), generator=generator, device=generator.device))

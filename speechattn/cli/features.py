"""`speechattn features`: log-mel frames of sound files as .npy, and as plots."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechattn.cli.options import Parser, positive
from speechattn.cli.spoken import find_spoken
from speechattn.errors import UserError
from speechattn.framing import Framing
from speechattn.model_config import FLAVORS, NUM_MELS

TITLE_CHARACTERS = 100
"""Of the sentence and its speaker, where a transcript lies beside the file."""


def main(argv: Sequence[str]) -> int:
    """Write the features of every file that the options `argv` name; return the exit status."""
    options = _parser().parse_args(argv)
    return features(options.files, options.out, options.num_mels, options.flavor, options.plot)


def _parser() -> Parser:
    parser = Parser("speechattn features", description="Log-mel frames of sound files, one .npy per file.")
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="wav, flac, ogg or mp3; resampled if needed")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for <name>.npy, [T, F] float32")
    add("--num-mels", type=positive, default=NUM_MELS, metavar="F", help=f"mel bands (default {NUM_MELS})")
    add("--flavor", choices=FLAVORS, default="kaldi", help="mel bands as in Kaldi or librosa (default kaldi)")
    add("--plot", action="store_true", help="write <name>.png, too")
    return parser


def features(files: Sequence[Path], out: Path, num_mels: int, flavor: str, plot: bool) -> int:
    """Write `out/<name>.npy`, float32 [T, num_mels], for every file, and `out/<name>.png` if asked.

    A file that cannot be read is named on stderr and the others are written; the exit status is then 2.
    """
    _check_files(files)
    import torch

    from speechattn.data.audio.files import load_audio
    from speechattn.frontend.logmel import LogMel
    from speechattn.system.atomic_files import write_bytes

    frontend = LogMel(num_mels=num_mels, flavor=flavor)
    unread = 0
    for file in files:
        try:
            waveform, _ = load_audio(file, frontend.framing.sample_rate)
            with torch.inference_mode():
                frames = frontend(waveform[None])[0][0].numpy()
        except UserError as error:
            print(f"speechattn: {error}", file=sys.stderr)
            unread += 1
            continue
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_bytes(out / f"{file.stem}.npy", _npy(frames))
            if plot:
                title = find_spoken(file).title(TITLE_CHARACTERS) or file.name
                write_bytes(out / f"{file.stem}.png", _png(frames, frontend.framing, title, flavor))
        except OSError as error:
            raise UserError(f"Cannot write to {out} ({error.strerror}): choose another --out.") from error
        print(f"{out / file.stem}.npy  {frames.shape[0]} frames x {frames.shape[1]}")
    if unread:
        raise UserError(f"{unread} of {len(files)} files gave no features; they are named above.")
    return 0


def _check_files(files: Sequence[Path]) -> None:
    """Refuse files that do not exist, and names that would collide, before torch is imported."""
    for file in files:
        if not os.path.exists(file):  # unlike Path.exists, False in a folder without permission
            raise UserError(f"{file} does not exist. Give the paths of sound files (wav, flac, ogg, mp3).")
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(file.stem, file)
        if other is not file:
            raise UserError(f"{other} and {file} would both become {file.stem}.npy: give them separate --out folders.")


def _npy(frames: Any) -> bytes:
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, frames)
    return buffer.getvalue()


def _png(frames: Any, framing: Framing, title: str, flavor: str) -> bytes:
    """Return the PNG of a spectrogram [T, F]."""
    from speechattn.plots.spectrogram import spectrogram
    from speechattn.plots.style import DPI

    buffer = io.BytesIO()
    spectrogram(frames, framing, title, flavor).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()

"""`speechattn features`: log-mel frames of sound files as .npy, and as pictures."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechattn.cli.options import positive
from speechattn.config import FLAVORS, NUM_MELS
from speechattn.errors import UserError


def add(commands: Any) -> None:
    """Its options; `commands` is what argparse calls subparsers."""
    help_features = "log-mel frames of sound files"
    command = commands.add_parser("features", help=help_features, description=f"{help_features}, one .npy a file.")
    command.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="wav, flac, ogg or mp3; resampled if need be"
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where <name>.npy goes, [T, F] float32")
    help_mels = f"mel bands (default {NUM_MELS})"
    command.add_argument("--num-mels", type=positive, default=NUM_MELS, metavar="F", help=help_mels)
    command.add_argument("--flavor", choices=FLAVORS, default="kaldi", help="whose log-mel (default kaldi)")
    command.add_argument("--picture", action="store_true", help="write <name>.png too")


def run(options: argparse.Namespace) -> int:
    """Write the features of every file; see `features`."""
    return features(options.files, options.out, options.num_mels, options.flavor, options.picture)


def features(files: Sequence[Path], out: Path, num_mels: int, flavor: str, picture: bool) -> int:
    """Write `out/<name>.npy`, float32 [T, num_mels], for every file, and `out/<name>.png` if asked.

    A file that cannot be read is named and the others are done; then the exit status is 2.
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
            if picture:
                write_bytes(out / f"{file.stem}.png", _png(frames, frontend.framing.hop_ms / 1000, file.name))
        except OSError as error:
            raise UserError(f"Cannot write to {out} ({error.strerror}): choose another --out.") from error
        print(f"{out / file.stem}.npy  {frames.shape[0]} frames x {frames.shape[1]}")
    if unread:
        raise UserError(f"{unread} of {len(files)} files gave no features; they are named above.")
    return 0


def _check_files(files: Sequence[Path]) -> None:
    """What can be said before torch is imported: files that are not there, and names that would collide."""
    for file in files:
        if not os.path.exists(file):  # unlike Path.exists, False where a folder may not be looked into
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


def _png(frames: Any, hop_s: float, title: str) -> bytes:
    """A spectrogram [T, F] in seconds and mel bands, made without pyplot: nothing global, no window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds", ylabel="mel band", title=title)
    if frames.size:
        extent = (0.0, frames.shape[0] * hop_s, 0.0, frames.shape[1])
        image = axes.imshow(frames.T, origin="lower", aspect="auto", extent=extent, interpolation="nearest")
        figure.colorbar(image, label="log energy")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()

"""encode_long: hours of audio through a model in constant memory, read, encoded and written block by block.

The result equals that of the whole audio at once, to rounding. Writing to a file can be interrupted: the same call
continues after the last complete block, and the file ends with the same bytes. For live audio, and for labels with
times, use `Stream`.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast, overload

import numpy as np
import torch
from torch import Tensor, nn

from speechattn.data.audio.files import audio_blocks, audio_samples
from speechattn.data.audio.samples import Samples, as_floats, cut, first_fault, resampled, whole_rate
from speechattn.data.audio.source import AudioSource
from speechattn.dtypes import like, widened
from speechattn.encoder.encoder import Encoder
from speechattn.errors import UserError
from speechattn.frontend.logmel import LogMel
from speechattn.models.speech_model import SpeechModel
from speechattn.stream_state import fingerprint
from speechattn.streaming.resumable_array import ResumableArray
from speechattn.system.progress import progress_bar

BLOCK_FRAMES = 3000
"""30 s: intermediate tensors take some ten megabytes, and an interruption costs at most so much audio."""
Source = AudioSource | Samples | Tensor | Iterable[Samples | Tensor]


@overload
def encode_long(
    model: SpeechModel | Encoder,
    source: Source,
    out: None = None,
    *,
    hidden: bool = ...,
    sample_rate: int | None = ...,
    block_frames: int = ...,
    progress: bool = ...,
) -> Iterator[Tensor]: ...


@overload
def encode_long(
    model: SpeechModel | Encoder,
    source: Source,
    out: str | Path,
    *,
    hidden: bool = ...,
    sample_rate: int | None = ...,
    block_frames: int = ...,
    progress: bool = ...,
) -> Samples: ...


def encode_long(
    model: SpeechModel | Encoder,
    source: Source,
    out: str | Path | None = None,
    *,
    hidden: bool = False,
    sample_rate: int | None = None,
    block_frames: int = BLOCK_FRAMES,
    progress: bool = True,
) -> Iterator[Tensor] | Samples:
    """Return the rows [T, C] of audio of any length: written to the .npy file `out` and mapped, or as an iterator.

    With `out`, an interrupted call leaves `out`.part and `out`.state, and the same call continues from there: it reads
    the source from its beginning, checks that it is the same, and encodes only what is missing; on the same machine the
    file ends with the same bytes. An existing file `out` stays until the new one is complete.

    Args:
        model: a SpeechModel, in evaluation mode (or it warns), with limited right context: rows are logits; or an
            Encoder, whose source is frames and whose rows are hidden.
        source: a sound file, by its path or as a binary file; or samples [N], floats in [-1, 1] or 16-bit integers (for
            an Encoder: frames [T, F], floats), as an array, a memory map, a tensor, or as blocks of these.
        out: the file to write, float32, or float64 as the model; None yields tensors [m, C] on the CPU instead.
        hidden: return the output of a SpeechModel's encoder, [T, d_model], instead of logits.
        sample_rate: of samples, in Hz; None is the model's. A file has its own.
        block_frames: frames that are read, encoded and written at a time: it sets memory and speed, and changes the
            result by rounding only.
        progress: show a bar.

    Raises:
        TypeError, ValueError: the source is of another type or shape, or the model cannot stream.
        UserError: the file is damaged, a sample is not finite or beyond 100, `out` cannot be written, or was begun
            with another model, other settings or another source.

    Examples:
        >>> from speechattn import EncoderConfig
        >>> encoder = Encoder(EncoderConfig(input_dim=40, d_model=16, num_layers=1)).eval()
        >>> parts = encode_long(encoder, torch.zeros(5000, 40), progress=False)
        >>> torch.cat(list(parts)).shape
        torch.Size([5000, 16])
    """
    if block_frames < 1:
        raise ValueError(f"block_frames must be 1 or more, got {block_frames}.")
    if out is not None and Path(out).suffix != ".npy":
        raise UserError(f"out must end in .npy, got {out}.")
    work = _Work(model, hidden, source, sample_rate, block_frames, progress)
    state = work.model.initial_state()  # raises if the model cannot stream
    encoder = model.encoder if isinstance(model, SpeechModel) else model
    if isinstance(encoder, Encoder):
        encoder.warn_in_training("model", stacklevel=2)
    if out is None:
        return (rows for _, rows, _ in work.encoded(work.blocks, state))
    work.write(Path(out), state)
    written: Samples = np.load(out, mmap_mode="r")
    return written


class _Work:
    """One call of `encode_long`, for either kind of model."""

    def __init__(
        self,
        model: SpeechModel | Encoder,
        hidden: bool,
        source: Source,
        sample_rate: int | None,
        block_frames: int,
        progress: bool,
    ) -> None:
        if isinstance(model, SpeechModel):
            framing, self.width = model.config.framing, len(model.config.classes)
            self.rate, self.size, self.axes, unit = (
                framing.sample_rate,
                framing.num_samples(block_frames),
                1,
                " s of audio",
            )
            if hidden:
                model, self.width = _without_head(model), model.config.encoder.d_model
        elif isinstance(model, Encoder):
            self.rate, self.size, self.axes, self.width, unit = 1, block_frames, 2, model.config.d_model, " frames"
        else:
            raise TypeError(f"model must be a SpeechModel or an Encoder that streams, got {type(model).__name__}.")
        self.model: Any = model
        self.hidden = hidden
        takes = model.frontend if isinstance(model, SpeechModel) else model
        self.like = takes.filterbank if isinstance(takes, LogMel) else like(takes)
        self.dtype = np.dtype(np.float64 if self.like.dtype == torch.float64 else np.float32)
        self.blocks, total = self._read(source, sample_rate)
        total = None if total is None else total // self.rate
        self.bar = functools.partial(progress_bar, desc="encode_long", total=total, unit=unit, disable=not progress)

    def encoded(self, blocks: Iterable[Samples], state: Any, taken: int = 0) -> Iterator[tuple[Samples, Tensor, Any]]:
        """Yield (block, rows [m, C] that it completes, new state); the last block is empty, for the flush."""
        blocks = _first_read(blocks)
        with self.bar(initial=taken // self.rate) as bar:
            for block in cut(blocks, self.size):
                rows, state = self.model.step(torch.from_numpy(block)[None].to(self.like), state)
                bar.update((taken + len(block)) // self.rate - taken // self.rate)
                taken += len(block)
                yield block, rows[0].cpu(), state
        yield np.empty(0, self.dtype), self.model.flush(state)[0].cpu(), state

    def write(self, out: Path, state: Any) -> None:
        """Encode the missing rows into `out`."""
        blocks, taken, digest = self.blocks, 0, hashlib.sha256()
        with ResumableArray(out, self.width, self.dtype, self.owner) as array:
            if resumed := array.resume(state):
                progress, state = resumed
                state, taken = state.to(self.like.device), progress.taken
                blocks = _skip(blocks, taken, digest)
                if digest.hexdigest() != progress.sha256:
                    raise UserError(
                        f"{array.part} was begun with another source: delete it and {array.state.name}, "
                        "or choose another `out`."
                    )
            for block, rows, after in self.encoded(blocks, state, taken):
                array.append(rows)
                if len(block):
                    taken += len(block)
                    digest.update(block.tobytes())
                    array.keep(taken, digest.hexdigest(), after)
            array.finish()

    @property
    def owner(self) -> str:
        """Twelve digits of a hash of all that decides the bytes of the rows, except the source."""
        settings = (fingerprint(self.model.config), self.hidden, self.size, str(self.dtype))
        digest = hashlib.sha256(repr(settings).encode())
        for value in self.model.state_dict().values():
            digest.update(_bytes(value))
        return digest.hexdigest()[:12]

    def _read(self, source: Source, sample_rate: int | None) -> tuple[Iterator[Samples], int | None]:
        """Return blocks of the source at the model's rate and dtype, and the number of samples or frames if known."""
        file = _as_file(source)
        if sample_rate is not None and (self.axes == 2 or file is not None):
            raise ValueError("sample_rate is for samples: a sound file has its own, frames have none.")
        if file is not None:
            if self.axes == 2:
                raise TypeError("an Encoder takes frames [T, F], no file: np.load(path, mmap_mode='r') maps some.")
            return self._checked(audio_blocks(file, self.rate), self.rate), audio_samples(file, self.rate)
        rate, total = self.rate if sample_rate in (None, self.rate) else whole_rate(sample_rate), None
        pieces: Any = source
        if isinstance(source, np.ndarray | Tensor):
            total = len(source) * self.rate // rate
            pieces = (source[begin : begin + self.size] for begin in range(0, len(source), self.size))
        blocks = self._checked(pieces, rate)
        return (blocks if rate == self.rate else resampled(blocks, rate, self.rate, str(self.dtype))), total

    def _checked(self, blocks: Iterable[Samples | Tensor], rate: int) -> Iterator[Samples]:
        """Yield the blocks in the model's dtype; raise if they are not samples or frames."""
        taken = 0
        for block in blocks:
            if isinstance(block, int | float) or getattr(block, "ndim", None) == 0:
                what = "samples" if self.axes == 1 else "frames"
                kind = type(block).__name__
                raise TypeError(f"a list is taken as blocks of {what}, and this one holds {kind}: np.array({what}).")
            if self.axes == 1:
                samples = as_floats(block, self.dtype)
                if fault := first_fault(samples):
                    at = taken + fault[0]
                    raise UserError(f"sample {at} of the source ({at / rate:.3f} s) {fault[1]}.")
                taken += len(samples)
                yield samples
                continue
            if isinstance(block, Tensor):
                block = block.detach().cpu()
                block = block.to(widened(block.dtype)).numpy() if block.is_floating_point() else block.numpy()
            array = np.asarray(block)
            if array.ndim != 2 or array.dtype not in (np.float16, np.float32, np.float64):
                raise TypeError(f"blocks must be frames [n, F], floats, got {array.dtype} {list(array.shape)}.")
            yield array.astype(self.dtype, copy=False)  # cut() copies


def _as_file(source: Source) -> AudioSource | None:
    """Return the source if it is a path or a binary file, None for samples and blocks of them."""
    if isinstance(source, str | os.PathLike) or hasattr(source, "read"):
        return cast(AudioSource, source)
    return None


def _bytes(value: Any) -> bytes:
    """Return the bytes of an entry of a state_dict; int8 layers have tuples and dtypes among them."""
    if isinstance(value, tuple):
        return b"".join(map(_bytes, value))
    if not isinstance(value, Tensor):
        return repr(value).encode()
    value = value.dequantize() if value.is_quantized else value
    return bytes(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _without_head(model: SpeechModel) -> SpeechModel:
    """Return a model with the same weights whose `step` and `flush` return the input of the head."""
    headless = copy.copy(model)
    headless._modules = {**model._modules, "head": nn.Identity()}
    return headless


def _first_read(blocks: Iterable[Samples]) -> Iterator[Samples]:
    """Return the same blocks; the first is read at once, so that its errors come before the progress bar."""
    blocks = iter(blocks)
    return itertools.chain(list(itertools.islice(blocks, 1)), blocks)


def _skip(blocks: Iterator[Samples], taken: int, digest: Any) -> Iterator[Samples]:
    """Return the blocks without their first `taken` rows, which go into the hash `digest`."""
    for block in blocks:
        first = block[:taken]
        digest.update(first.tobytes())
        taken -= len(first)
        if not taken:
            return itertools.chain([block[len(first) :]], blocks)
    return blocks

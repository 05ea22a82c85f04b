"""A limit on memory that is checked before anything is allocated: `with sa.memory_limit("8GB"): ...`.

SPEECHATTN_MEMORY=8GB in the environment sets it for the whole process, "auto" is the free memory of the machine. A call
that does not fit raises an error that says what would fit, instead of being killed or making the machine swap. Only
calls that `estimate` covers are checked, and only on the CPU.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

from speechattn.config import EncoderConfig
from speechattn.errors import MemoryLimitError
from speechattn.framing import HOP_MS
from speechattn.planning.attention_memory import score_bytes
from speechattn.planning.estimate import ESTIMATED_BLOCKS, Estimate, estimate, max_that_fits
from speechattn.planning.suggestions import suggest
from speechattn.system.process_memory import available_bytes, resident_bytes, trim
from speechattn.system.units import format_bytes, format_duration, parse_bytes

SWITCH = "SPEECHATTN_MEMORY"
AUTO = "auto"

_limit: ContextVar[str | None] = ContextVar("speechattn_memory_limit", default=None)


@contextlib.contextmanager
def memory_limit(limit: int | str) -> Iterator[None]:
    """Refuse calls that would make this process take more than `limit`: bytes, "8GB", or "auto".

    It replaces SPEECHATTN_MEMORY and any outer limit. "auto" is the memory of the process plus the free memory of the
    machine. asyncio tasks started inside inherit it, threads do not; SPEECHATTN_MEMORY holds in all threads. Checked
    are whole calls of an encoder and dense attention, not `step`.

    Raises:
        ConfigError: limit is not a size, or a small number without a unit, as 8.
        MemoryLimitError: inside, by the call that would not fit.

    Examples:
        >>> import torch
        >>> import speechattn as sa
        >>> encoder = sa.Encoder(sa.EncoderConfig(input_dim=80)).eval()
        >>> with sa.memory_limit("100GB"), torch.no_grad():
        ...     hidden, _ = encoder(torch.zeros(1, 500, 80))
    """
    text = str(limit)
    if text != AUTO:
        parse_bytes(text, "memory_limit")
    token = _limit.set(text)
    try:
        yield
    finally:
        _limit.reset(token)


def limit_bytes() -> int | None:
    """Return the limit in bytes of the whole process, or None."""
    text = _limit.get() or os.environ.get(SWITCH)
    if not text:
        return None
    if text == AUTO:
        available = available_bytes()
        return None if available is None else resident_bytes() + available
    return parse_bytes(text, SWITCH)


def check(
    config: EncoderConfig,
    num_frames: int,
    batch_size: int,
    training: bool,
    dtype: str,
    native: bool,
    lengths: bool | None = None,
    hop_ms: float = HOP_MS,
) -> None:
    """Raise MemoryLimitError if a call of an encoder would not fit; arguments as in `estimate`."""
    limit = limit_bytes()
    if limit is None or config.block not in ESTIMATED_BLOCKS:
        return
    made = estimate(
        config, num_frames, batch_size, training, dtype=dtype, native=native, lengths=lengths, hop_ms=hop_ms
    )
    resident = _resident_bytes(limit - made.peak_bytes)
    if resident + made.peak_bytes > limit:
        raise MemoryLimitError(_message(made, limit, resident, native))


def check_scores(batch_size: int, num_heads: int, num_frames: int, item: int, biased: bool) -> None:
    """Raise MemoryLimitError if T x T scores would not fit, of `item` bytes each, to which a bias is added or not."""
    limit = limit_bytes()
    if limit is None:
        return
    needed = score_bytes(batch_size, num_heads, num_frames, item, biased)
    resident = _resident_bytes(limit - needed)
    if resident + needed > limit:
        raise MemoryLimitError(
            f"attention with {num_frames} x {num_frames} scores for each of {batch_size} x {num_heads} heads takes "
            f'{format_bytes(needed)}, {_allowed(resident, limit)}. backend="auto" never has them all at once; in a '
            "window, Context.truncated(64, 64), they are few."
        )


def _resident_bytes(allowed: int) -> int:
    """Return the resident size; if it is above `allowed`, after returning freed memory to the system."""
    resident = resident_bytes()
    if resident > allowed:
        trim()
        resident = resident_bytes()
    return resident


def _allowed(resident: int, limit: int) -> str:
    return (
        f"this process holds {format_bytes(resident)}, and {format_bytes(limit)} are allowed ({SWITCH} or memory_limit)"
    )


def _message(made: Estimate, limit: int, resident: int, native: bool) -> str:
    rows = f"{made.batch_size} x {format_duration(made.audio_s)}"
    work = "training on" if made.mode == "training" else "encoding"
    fitting = max_that_fits(lambda frames: resident + _same_with(made, frames, native).peak_bytes <= limit)
    fits = f"At once fit {fitting} frames a row." if fitting else "Not one frame fits."
    return (
        f"{work} {rows} ({made.frames} frames a row) at once takes {format_bytes(made.peak_bytes)}, "
        f"{_allowed(resident, limit)}. {fits} "
        + " ".join(([_no_grad_hint(made, native)] if made.mode == "training" else []) + suggest(made)[:2])
    ).strip()


def _no_grad_hint(made: Estimate, native: bool) -> str:
    without = estimate(made.config, made.frames, made.batch_size, dtype=made.dtype, native=native)
    return f"torch.no_grad(), where no gradient is wanted, takes {format_bytes(without.peak_bytes)}."


def _same_with(made: Estimate, frames: int, native: bool) -> Estimate:
    return estimate(made.config, frames, made.batch_size, made.mode == "training", dtype=made.dtype, native=native)

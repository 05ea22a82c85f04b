"""A limit on memory that is checked before anything is allocated: `with sa.memory_limit("8GB"): ...`.

The environment's SPEECHATTN_MEMORY=8GB does the same for a whole process, and =auto takes what the machine has left.
An encoder that is called with more than fits says so, and what would fit, where it would otherwise be killed, or
bring the machine to a stand. Only what this package can plan is checked, and only on the CPU.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

from speechattn.config import EncoderConfig
from speechattn.errors import MemoryLimitError
from speechattn.framing import HOP_MS
from speechattn.planning.estimate import PLANNED, Estimate, estimate, max_that_fits
from speechattn.planning.memory import score_bytes
from speechattn.planning.suggestions import suggest
from speechattn.system.process_memory import available_bytes, resident_bytes, trim
from speechattn.system.units import format_bytes, format_duration, parse_bytes

SWITCH = "SPEECHATTN_MEMORY"
AUTO = "auto"

_limit: ContextVar[str | None] = ContextVar("speechattn_memory_limit", default=None)


@contextlib.contextmanager
def memory_limit(limit: int | str) -> Iterator[None]:
    """Refuse, inside, what would make this process take more than `limit`: bytes, "8GB", or "auto".

    It replaces SPEECHATTN_MEMORY and any limit around it. "auto" is what the process has and the machine can give.
    Tasks of asyncio begun inside inherit it, threads do not: SPEECHATTN_MEMORY holds in all of them. Only whole calls
    of an encoder are checked, and dense attention; a step of a stream is not.

    Raises:
        ConfigError: limit is no such size.
        MemoryLimitError: inside, by the call that would not fit.

    Example:
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
    """The limit that holds here, for the whole process; None if there is none."""
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
    """Raise MemoryLimitError if an encoder's call on so many frames would not fit; arguments as in `estimate`."""
    limit = limit_bytes()
    if limit is None or config.block not in PLANNED:
        return
    made = estimate(
        config, num_frames, batch_size, training, dtype=dtype, native=native, lengths=lengths, hop_ms=hop_ms
    )
    held = _held_bytes(limit - made.peak_bytes)
    if held + made.peak_bytes > limit:
        raise MemoryLimitError(_refusal(made, limit, held, native))


def check_scores(batch_size: int, num_heads: int, num_frames: int, item: int, biased: bool) -> None:
    """Raise MemoryLimitError if T x T scores would not fit, of `item` bytes each, to which a bias is added or not."""
    limit = limit_bytes()
    if limit is None:
        return
    needed = score_bytes(batch_size, num_heads, num_frames, item, biased)
    held = _held_bytes(limit - needed)
    if held + needed > limit:
        raise MemoryLimitError(
            f"attention with {num_frames} x {num_frames} scores for each of {batch_size} x {num_heads} heads takes "
            f'{format_bytes(needed)}, {_allowed(held, limit)}. backend="auto" never has them all at once; in a window, '
            "Context.truncated(64, 64), they are few."
        )


def _held_bytes(allowed: int) -> int:
    """Return what this process holds; where that is more than `allowed`, without what was freed and not given back."""
    held = resident_bytes()
    if held > allowed:
        trim()
        held = resident_bytes()
    return held


def _allowed(held: int, limit: int) -> str:
    return f"this process holds {format_bytes(held)}, and {format_bytes(limit)} are allowed ({SWITCH} or memory_limit)"


def _refusal(made: Estimate, limit: int, held: int, native: bool) -> str:
    rows = f"{made.batch_size} x {format_duration(made.audio_s)}"
    work = "training on" if made.mode == "training" else "encoding"
    fitting = max_that_fits(lambda frames: held + _planned(made, frames, native).peak_bytes <= limit)
    fits = f"At once fit {fitting} frames a row." if fitting else "Not one frame fits."
    return (
        f"{work} {rows} ({made.frames} frames a row) at once takes {format_bytes(made.peak_bytes)}, "
        f"{_allowed(held, limit)}. {fits} "
        + " ".join(([_ungraded(made, native)] if made.mode == "training" else []) + suggest(made)[:2])
    ).strip()


def _ungraded(made: Estimate, native: bool) -> str:
    without = estimate(made.config, made.frames, made.batch_size, dtype=made.dtype, native=native)
    return f"torch.no_grad(), where no gradient is wanted, takes {format_bytes(without.peak_bytes)}."


def _planned(made: Estimate, frames: int, native: bool) -> Estimate:
    return estimate(made.config, frames, made.batch_size, made.mode == "training", dtype=made.dtype, native=native)

"""Other calls and settings that take less than an estimate, each with its memory."""

from __future__ import annotations

from dataclasses import replace

from speechattn.config import ATTENTION_BLOCKS, DEFAULT_CONTEXT
from speechattn.planning.estimate import PUSH, Estimate, estimate
from speechattn.system.units import format_bytes

MAX_SHARE = 0.7
"""A suggestion must take at most this share of the memory or the operations."""


def suggest(made: Estimate) -> list[str]:
    """Return sentences, the one that saves most memory first; none if nothing saves enough."""
    found = [*_streamed(made), *_checkpointed(made), *_in_a_window(made), *_fewer_rows(made)]
    return [sentence for _, sentence in sorted(found)]


def _streamed(made: Estimate) -> list[tuple[float, str]]:
    contexts = made.config.layer_contexts if made.config.block in ATTENTION_BLOCKS else ()
    if made.mode != "inference" or made.frames <= PUSH or not all(context.limited for context in contexts):
        return []
    stream = estimate(made.config, made.frames, made.batch_size, streaming=True, dtype=made.dtype)
    how = f"sa.encode_long, or encoder.step with {PUSH} frames at a time"
    return _saves(made, stream, f"{how}, takes {format_bytes(stream.peak_bytes)} however long the audio is.")


def _checkpointed(made: Estimate) -> list[tuple[float, str]]:
    if made.mode != "training" or made.config.gradient_checkpointing:
        return []
    again = _again(made, gradient_checkpointing=True)
    return _saves(made, again, f"gradient_checkpointing=True takes {format_bytes(again.peak_bytes)}, and more time.")


def _in_a_window(made: Estimate) -> list[tuple[float, str]]:
    config = made.config
    if config.block not in ATTENTION_BLOCKS or all(context.limited for context in config.layer_contexts):
        return []
    window = _again(made, context=DEFAULT_CONTEXT)
    if not made.flops or window.flops > MAX_SHARE * made.flops:
        return []
    name = f"Context.truncated({DEFAULT_CONTEXT.left}, {DEFAULT_CONTEXT.right})"
    sentence = (
        f"{name} takes {made.flops / window.flops:.3g} times fewer operations, and {format_bytes(window.peak_bytes)}."
    )
    return [(window.peak_bytes / max(made.peak_bytes, 1), sentence)]


def _fewer_rows(made: Estimate) -> list[tuple[float, str]]:
    if made.batch_size == 1 or made.mode != "training":
        return []
    half = estimate(made.config, made.frames, made.batch_size // 2, made.mode == "training", dtype=made.dtype)
    return _saves(made, half, f"{half.batch_size} rows a batch take {format_bytes(half.peak_bytes)}.")


def _again(made: Estimate, **changes: object) -> Estimate:
    config = replace(made.config, **changes)  # type: ignore[arg-type]
    return estimate(config, made.frames, made.batch_size, made.mode == "training", dtype=made.dtype)


def _saves(made: Estimate, other: Estimate, sentence: str) -> list[tuple[float, str]]:
    left = other.peak_bytes / max(made.peak_bytes, 1)
    return [(left, sentence)] if left <= MAX_SHARE else []

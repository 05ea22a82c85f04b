"""Checks of numerics: short and empty audio, finite gradients, repeatability, memory layout, precision."""

from __future__ import annotations

import torch

from speechattn.conformance.padding import gradients, largest, ragged, zero_padded_rows
from speechattn.conformance.results import (
    CheckResult,
    NonconformingError,
    NotOfferedError,
    first_line,
    judge,
    judge_cases,
)
from speechattn.conformance.under_test import EncoderUnderTest, difference

# Rounding of 6e-8 a step, some hundred steps one after another, and what a normalisation makes of it.
FLOAT32_TOLERANCE = 1e-4


def short(under_test: EncoderUnderTest) -> CheckResult:
    """Check that audio of 1, 2, 3, ... frames runs and gives finite numbers."""

    def not_finite(num_frames: int) -> float:
        (row,) = under_test.rows(under_test.frames(1, num_frames))
        return float((~row.isfinite()).sum())

    cases = {f"T={n}": lambda n=n: not_finite(n) for n in (1, 2, 3, 4, 5, 7)}
    return judge_cases(cases, 0, "Runs and is finite from one frame on.", "not finite")


def no_frames(under_test: EncoderUnderTest) -> CheckResult:
    """Check that nothing in, nothing out: T = 0, a batch of empty rows only, a batch of no rows."""

    def frames_out(batch_size: int, num_frames: int) -> float:
        rows = under_test.rows(under_test.frames(batch_size, num_frames), [0] * batch_size)
        return float(sum(len(row) for row in rows))

    cases = {
        "T=0": lambda: frames_out(1, 0),
        "all rows empty": lambda: frames_out(2, 8),
        "B=0": lambda: frames_out(0, 8),
    }
    return judge_cases(cases, 0, "Nothing in, nothing out.", "frames")


def finite_gradients(under_test: EncoderUnderTest) -> CheckResult:
    """Check that gradients of input and weights are finite, rows of one frame and empty rows included."""
    frames, lengths = ragged(under_test)

    def not_finite(lengths: list[int]) -> float:
        found = gradients(under_test, zero_padded_rows(frames, lengths), lengths)
        return float(sum(int((~gradient.isfinite()).sum()) for gradient in found))

    longest = lengths[0]
    cases = {
        "ragged rows": lambda: not_finite(lengths),
        "a row of one frame": lambda: not_finite([longest, 1, 3, 1]),
        "an empty row": lambda: not_finite([longest, 0, 3, longest]),
    }
    return judge_cases(cases, 0, "Every gradient is finite.", "not finite")


def repeat(under_test: EncoderUnderTest) -> CheckResult:
    """Check that the same call twice gives the same bits."""
    frames, lengths = ragged(under_test)
    first = under_test.rows(frames, lengths)
    return judge(largest(under_test.rows(frames, lengths), first), 0, "Two equal calls differ by {}.")


def layout(under_test: EncoderUnderTest) -> CheckResult:
    """Check that how the input lies in memory (transposed, a slice, expanded) changes nothing."""
    frames, lengths = ragged(under_test)
    expected = under_test.rows(frames, lengths)
    wide = torch.cat([frames, frames + 1], 2)
    shared = frames[:1].expand(3, -1, -1)
    whole = [lengths[0]] * 3
    cases = {
        "time first": lambda: largest(
            under_test.rows(frames.transpose(0, 1).contiguous().transpose(0, 1), lengths), expected
        ),
        "features first": lambda: largest(under_test.rows(frames.mT.contiguous().mT, lengths), expected),
        "slice": lambda: largest(under_test.rows(wide[..., : under_test.features], lengths), expected),
        "expanded": lambda: largest(under_test.rows(shared, whole), under_test.rows(shared.contiguous(), whole)),
    }
    return judge_cases(
        cases, under_test.allowed(expected), "The same numbers laid out differently give {} of difference."
    )


def precision(under_test: EncoderUnderTest) -> CheckResult:
    """Check that in float32 the output stays near that of float64, relative to its largest number."""
    outputs = []
    for dtype in (torch.float64, torch.float32):
        frames, lengths = ragged(under_test)
        try:
            outputs.append([row.double() for row in under_test.cast(dtype).rows(frames.to(dtype), lengths)])
        except NonconformingError:
            raise
        except Exception as exception:
            if dtype == under_test.dtype:
                raise
            raise NotOfferedError(f"Does not run in {dtype}: {first_line(exception)}") from exception
    scale = max(float(row.abs().max()) for row in outputs[0] if row.numel())
    worst = max(difference(b, a) for a, b in zip(*outputs, strict=True)) / scale
    return judge(worst, FLOAT32_TOLERANCE, "float32 differs from float64 by {} of the largest output.")

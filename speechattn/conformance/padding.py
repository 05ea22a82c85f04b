"""Checks that a row does not depend on padding, on its neighbours, or on the width of the batch.

Only valid output frames are compared, so an implementation may leave anything behind them. Padded rows share the batch
with a row that fills it, as in a batch of recordings; `fixed_width` is the check without one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.conformance.results import CheckResult, NonconformingError, judge, judge_cases
from speechattn.conformance.under_test import EncoderUnderTest, difference

FILLERS = {"random": None, "1e30": 1e30, "NaN": float("nan"), "Inf": float("inf")}


def padding_values(under_test: EncoderUnderTest) -> CheckResult:
    """Check that what the padding holds (random numbers, 1e30, NaN, Inf) changes no output."""
    frames, lengths = ragged(under_test)
    expected = under_test.rows(frames, lengths)

    def error(filler: float | None) -> float:
        return largest(under_test.rows(padded_with(under_test, frames, lengths, filler), lengths), expected)

    cases = {name: lambda filler=filler: error(filler) for name, filler in FILLERS.items()}
    return judge_cases(cases, under_test.allowed(expected), "Beside zeros in the padding the largest error is {}.")


def padding_gradients(under_test: EncoderUnderTest) -> CheckResult:
    """Check that what the padding holds changes no gradient, of input and weights, and none flows into the padding."""
    frames, lengths = ragged(under_test)
    expected = gradients(under_test, frames, lengths)

    def error(filler: float | None) -> float:
        found = gradients(under_test, padded_with(under_test, frames, lengths, filler), lengths)
        into_padding = found[0][~valid(lengths, frames.shape[1])]
        return max(largest(found, expected), difference(into_padding, torch.zeros_like(into_padding)))

    cases = {name: lambda filler=filler: error(filler) for name, filler in FILLERS.items()}
    return judge_cases(cases, under_test.allowed(expected), "Beside zeros in the padding the largest error is {}.")


def padding_amount(under_test: EncoderUnderTest) -> CheckResult:
    """Check that how much padding there is, for a longer neighbour, changes nothing, whatever the row's length."""
    worst, allowed, at = 0.0, 0.0, ""
    for length in some_lengths(under_test):
        try:
            expected = under_test.rows(under_test.frames(1, length))[0]
        except Exception:  # the check of short audio reports it
            if length == under_test.num_frames:
                raise
            continue
        allowed = max(allowed, under_test.allowed(expected))
        for more in (1, 2, 3, 7, 16, 29):
            frames = zero_padded(under_test.frames(1, length), more)
            batch = torch.cat([frames, under_test.frames(1, length + more, 31)])
            error = difference(under_test.rows(batch, [length, length + more])[0], expected)
            if error > worst:
                worst, at = error, f", for a row of {length} frames with {more} of padding"
    return judge(worst, allowed, f"A row moves by {{}} when padding is added{at}.")


def fixed_width(under_test: EncoderUnderTest) -> CheckResult:
    """Check that a batch may be wider than its longest row, as where shapes are fixed for a compiler."""
    length = under_test.num_frames
    expected = under_test.rows(under_test.frames(1, length))[0]
    worst = 0.0
    for more in (1, 5, 16):
        frames = zero_padded(under_test.frames(1, length), more).repeat(2, 1, 1)
        for row in under_test.rows(frames, [length, length]):
            worst = max(worst, difference(row, expected))
    return judge(worst, under_test.allowed(expected), "Rows that are all padded move by {}.")


def neighbours(under_test: EncoderUnderTest) -> CheckResult:
    """Check that a row alone equals the row in a batch, whoever its neighbours are."""
    frames, lengths = ragged(under_test)
    together = under_test.rows(frames, lengths)
    alone = [under_test.rows(row[None, :length])[0] for row, length in zip(frames, lengths, strict=True) if length]
    other, order = frames.clone(), [2, 0, 1, 3]
    other[1:] = under_test.frames(len(lengths) - 1, frames.shape[1], 41)
    other = zero_padded_rows(other, lengths)
    cases = {
        "alone": lambda: largest(together, alone),
        "other neighbours": lambda: difference(under_test.rows(other, lengths)[0], together[0]),
        "another order": lambda: largest(
            under_test.rows(frames[order], [lengths[i] for i in order]), [together[i] for i in order]
        ),
    }
    return judge_cases(cases, under_test.allowed(together), "Alone or with others in the batch, a row differs by {}.")


def empty_rows(under_test: EncoderUnderTest) -> CheckResult:
    """Check that a row of length 0 in a batch gives no frames, no NaN, and nothing to its neighbours."""
    frames = under_test.frames(2, under_test.num_frames, 51)
    expected = [under_test.rows(row[None])[0] for row in frames]
    batch = torch.stack([frames[0], torch.zeros_like(frames[0]), frames[1]])
    first, empty, last = under_test.rows(batch, [under_test.num_frames, 0, under_test.num_frames])
    if len(empty):
        raise NonconformingError(f"a row of length 0 has {len(empty)} output frames.")
    error = largest([first, last], expected)
    return judge(error, under_test.allowed(expected), "The neighbours of an empty row move by {}.")


def ragged(under_test: EncoderUnderTest) -> tuple[Tensor, list[int]]:
    """Return frames [4, T, features] with zeros in the padding, and their lengths; the first row fills the batch."""
    width = under_test.num_frames
    lengths = [width, width * 2 // 3, width // 2, 5]
    return zero_padded_rows(under_test.frames(4, width, 30), lengths), lengths


def some_lengths(under_test: EncoderUnderTest) -> list[int]:
    """Return short and long lengths, multiples of 2, 3 and 4 and primes."""
    return sorted({1, 2, 3, 4, 7, 12, under_test.num_frames - 1, under_test.num_frames})


def valid(lengths: list[int], num_frames: int) -> Tensor:
    """Return the mask [B, num_frames], True = real frame."""
    return torch.arange(num_frames) < torch.tensor(lengths)[:, None]


def zero_padded(frames: Tensor, more: int) -> Tensor:
    """Return frames [B, T + more, F] with zeros at the end."""
    return torch.nn.functional.pad(frames, (0, 0, 0, more))


def zero_padded_rows(frames: Tensor, lengths: list[int]) -> Tensor:
    """Return frames [B, T, F] with zeros behind each row's length."""
    return torch.where(valid(lengths, frames.shape[1])[..., None], frames, frames.new_zeros(()))


def padded_with(under_test: EncoderUnderTest, frames: Tensor, lengths: list[int], filler: float | None) -> Tensor:
    """Return `frames` with `filler` in the padding; None is random numbers."""
    other = (
        10 * under_test.frames(len(frames), frames.shape[1], 61) if filler is None else torch.full_like(frames, filler)
    )
    return torch.where(valid(lengths, frames.shape[1])[..., None], frames, other)


def gradients(under_test: EncoderUnderTest, frames: Tensor, lengths: list[int]) -> list[Tensor]:
    """Return gradients of the input and all weights, for a random weighting of the valid output frames."""
    leaf = frames.clone().requires_grad_()
    output, output_lengths = under_test(leaf, lengths)
    generator = torch.Generator().manual_seed(under_test.seed)
    weighting = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)
    score = sum((output[b, :n] * weighting[b, :n]).sum() for b, n in enumerate(output_lengths))
    leaves = [leaf, *(p for p in under_test.parameters if p.requires_grad)]
    found = torch.autograd.grad(score, leaves, allow_unused=True)  # type: ignore[arg-type]
    return [torch.zeros_like(x) if gradient is None else gradient for x, gradient in zip(leaves, found, strict=True)]


def largest(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest difference between two lists of tensors."""
    return max((difference(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)

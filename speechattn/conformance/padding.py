"""A row's result is its own: padding, neighbours and the width of the batch change nothing.

Only valid output frames are compared, so an implementation may leave anything behind them. Rows that shall be padded
stand beside one that is not, as they do in a batch of recordings; `fixed_width` is the check without it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.conformance.results import NonconformingError, Outcome, judge, judge_cases
from speechattn.conformance.under_test import Subject, difference

RUBBISH = {"random": None, "1e30": 1e30, "NaN": float("nan"), "Inf": float("inf")}


def padding_values(subject: Subject) -> Outcome:
    """What the padding holds (random numbers, 1e30, NaN, Inf) changes no output."""
    frames, lengths = ragged(subject)
    expected = subject.rows(frames, lengths)

    def error(rubbish: float | None) -> float:
        return largest(subject.rows(padded_with(subject, frames, lengths, rubbish), lengths), expected)

    cases = {name: lambda rubbish=rubbish: error(rubbish) for name, rubbish in RUBBISH.items()}
    return judge_cases(cases, subject.allowed(expected), "Beside zeros in the padding the largest error is {}.")


def padding_gradients(subject: Subject) -> Outcome:
    """What the padding holds changes no gradient, of input and weights, and none flows into the padding."""
    frames, lengths = ragged(subject)
    expected = gradients(subject, frames, lengths)

    def error(rubbish: float | None) -> float:
        found = gradients(subject, padded_with(subject, frames, lengths, rubbish), lengths)
        into_padding = found[0][~valid(lengths, frames.shape[1])]
        return max(largest(found, expected), difference(into_padding, torch.zeros_like(into_padding)))

    cases = {name: lambda rubbish=rubbish: error(rubbish) for name, rubbish in RUBBISH.items()}
    return judge_cases(cases, subject.allowed(expected), "Beside zeros in the padding the largest error is {}.")


def padding_amount(subject: Subject) -> Outcome:
    """How much padding there is, for a longer neighbour, changes nothing, whatever the row's length."""
    worst, allowed, at = 0.0, 0.0, ""
    for length in some_lengths(subject):
        try:
            expected = subject.rows(subject.frames(1, length))[0]
        except Exception:  # what cannot be done with short audio is the finding of another check
            if length == subject.num_frames:
                raise
            continue
        allowed = max(allowed, subject.allowed(expected))
        for more in (1, 2, 3, 7, 16, 29):
            frames = zero_padded(subject.frames(1, length), more)
            batch = torch.cat([frames, subject.frames(1, length + more, 31)])
            error = difference(subject.rows(batch, [length, length + more])[0], expected)
            if error > worst:
                worst, at = error, f", for a row of {length} frames with {more} of padding"
    return judge(worst, allowed, f"A row moves by {{}} when padding is added{at}.")


def fixed_width(subject: Subject) -> Outcome:
    """A batch may be wider than its longest row, as where shapes are fixed for a compiler."""
    length = subject.num_frames
    expected = subject.rows(subject.frames(1, length))[0]
    worst = 0.0
    for more in (1, 5, 16):
        frames = zero_padded(subject.frames(1, length), more).repeat(2, 1, 1)
        for row in subject.rows(frames, [length, length]):
            worst = max(worst, difference(row, expected))
    return judge(worst, subject.allowed(expected), "Rows that are all padded move by {}.")


def neighbours(subject: Subject) -> Outcome:
    """A row alone equals the row in a batch, whoever its neighbours are."""
    frames, lengths = ragged(subject)
    together = subject.rows(frames, lengths)
    alone = [subject.rows(row[None, :length])[0] for row, length in zip(frames, lengths, strict=True) if length]
    other, order = frames.clone(), [2, 0, 1, 3]
    other[1:] = subject.frames(len(lengths) - 1, frames.shape[1], 41)
    other = zero_padded_rows(other, lengths)
    cases = {
        "alone": lambda: largest(together, alone),
        "other neighbours": lambda: difference(subject.rows(other, lengths)[0], together[0]),
        "another order": lambda: largest(
            subject.rows(frames[order], [lengths[i] for i in order]), [together[i] for i in order]
        ),
    }
    return judge_cases(cases, subject.allowed(together), "Alone or with others in the batch, a row differs by {}.")


def empty_rows(subject: Subject) -> Outcome:
    """A row of length 0 in a batch gives no frames, no NaN, and nothing to its neighbours."""
    frames = subject.frames(2, subject.num_frames, 51)
    expected = [subject.rows(row[None])[0] for row in frames]
    batch = torch.stack([frames[0], torch.zeros_like(frames[0]), frames[1]])
    first, empty, last = subject.rows(batch, [subject.num_frames, 0, subject.num_frames])
    if len(empty):
        raise NonconformingError(f"a row of length 0 has {len(empty)} output frames.")
    error = largest([first, last], expected)
    return judge(error, subject.allowed(expected), "The neighbours of an empty row move by {}.")


def ragged(subject: Subject) -> tuple[Tensor, list[int]]:
    """Four rows, the first as long as the batch; frames [4, T, features] with zeros in the padding."""
    most = subject.num_frames
    lengths = [most, most * 2 // 3, most // 2, 5]
    return zero_padded_rows(subject.frames(4, most, 30), lengths), lengths


def some_lengths(subject: Subject) -> list[int]:
    """Short and long, multiples of 2, 3, 4 and of nothing."""
    return sorted({1, 2, 3, 4, 7, 12, subject.num_frames - 1, subject.num_frames})


def valid(lengths: list[int], num_frames: int) -> Tensor:
    """Bool [B, num_frames], True = real frame."""
    return torch.arange(num_frames) < torch.tensor(lengths)[:, None]


def zero_padded(frames: Tensor, more: int) -> Tensor:
    return torch.nn.functional.pad(frames, (0, 0, 0, more))


def zero_padded_rows(frames: Tensor, lengths: list[int]) -> Tensor:
    return torch.where(valid(lengths, frames.shape[1])[..., None], frames, frames.new_zeros(()))


def padded_with(subject: Subject, frames: Tensor, lengths: list[int], rubbish: float | None) -> Tensor:
    """`frames` with `rubbish` in the padding; None is random numbers."""
    other = (
        10 * subject.frames(len(frames), frames.shape[1], 61) if rubbish is None else torch.full_like(frames, rubbish)
    )
    return torch.where(valid(lengths, frames.shape[1])[..., None], frames, other)


def gradients(subject: Subject, frames: Tensor, lengths: list[int]) -> list[Tensor]:
    """Gradients of the input and of all weights, for a random weighting of the valid output frames."""
    leaf = frames.clone().requires_grad_()
    output, output_lengths = subject(leaf, lengths)
    generator = torch.Generator().manual_seed(subject.seed)
    weighting = torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output.dtype)
    score = sum((output[b, :n] * weighting[b, :n]).sum() for b, n in enumerate(output_lengths))
    leaves = [leaf, *(p for p in subject.parameters if p.requires_grad)]
    found = torch.autograd.grad(score, leaves, allow_unused=True)  # type: ignore[arg-type]
    return [torch.zeros_like(x) if gradient is None else gradient for x, gradient in zip(leaves, found, strict=True)]


def largest(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference between two lists of tensors."""
    return max((difference(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)

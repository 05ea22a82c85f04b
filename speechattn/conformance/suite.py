"""All checks by name, and the functions that run them. An exception of an implementation is a finding, not a crash."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from speechattn.conformance import numerics, padding, receptive_field, streaming
from speechattn.conformance.results import (
    FAILED,
    NOT_OFFERED,
    CheckResult,
    Findings,
    NonconformingError,
    NotOfferedError,
    first_line,
)
from speechattn.conformance.under_test import Encoder, EncoderUnderTest, Reach, as_reach, enough_frames
from speechattn.context import Context

CHECKS: dict[str, Callable[[EncoderUnderTest], CheckResult]] = {
    "reach": receptive_field.reach,
    "outside": receptive_field.outside,
    "window": receptive_field.window,
    "sides": receptive_field.sides,
    "padding values": padding.padding_values,
    "padding gradients": padding.padding_gradients,
    "padding amount": padding.padding_amount,
    "fixed width": padding.fixed_width,
    "neighbours": padding.neighbours,
    "empty rows": padding.empty_rows,
    "short audio": numerics.short,
    "no frames": numerics.no_frames,
    "finite gradients": numerics.finite_gradients,
    "repeat": numerics.repeat,
    "layout": numerics.layout,
    "precision": numerics.precision,
    "stream": streaming.stream,
    "stream end": streaming.stream_end,
    "stream on time": streaming.stream_on_time,
    "stream memory": streaming.stream_memory,
    "stream purity": streaming.stream_purity,
    "stream batch": streaming.stream_batch,
}

MIN_FRAMES = 8
"""A batch of rows of several lengths needs that many."""


def check_encoder(
    encoder: Encoder,
    features: int,
    reach: Context | Sequence[Context] | Reach | None = None,
    *,
    name: str = "",
    dtype: torch.dtype = torch.float64,
    num_frames: int | None = None,
    granularity: int = 1,
    seed: int = 0,
    device: torch.device | str = "cpu",
    checks: Sequence[str] = tuple(CHECKS),
) -> Findings:
    """Check ``encoder(frames [B, T, features], lengths [B]) -> (output [B, T', D], lengths [B])``.

    A module is copied, put into eval mode and cast; the one that was given stays as it is. If it has the methods
    `initial_state`, `step` and `flush` of `speechattn.Encoder`, they are checked as its stream.

    Args:
        encoder: any callable; best a module, whose weights can be cast and have gradients.
        features: numbers in an input frame.
        reach: what an output frame depends on, through all layers: a Context (one layer), a Context per layer, or a
            function (i, num_frames) -> (start, stop) in input frames. None: the encoder's method of that name.
        name: of the column; the class's name if not given.
        dtype: float64 (errors up to 1e-10 are rounding), or float32 (1e-5 of the largest output) for what is in
            float32 by design, such as a softmax that always is.
        num_frames: length of the audio in most checks; twice the reach if not given. Small windows make quick checks.
        granularity: pushes to the stream are multiples of it, save the last.
        seed: of the random frames.
        device: where the encoder runs.
        checks: names from CHECKS, all by default.

    Raises:
        TypeError, ValueError: reach, dtype or a name in checks is unknown, or a number is too small.

    Examples:
        >>> findings = check_encoder(lambda frames, lengths: (frames, lengths), 3, Context.truncated(0, 0))
        >>> findings.failed
        []
    """
    unknown = [check for check in checks if check not in CHECKS]
    if unknown:
        raise ValueError(f"there is no check {unknown[0]!r}; there are {', '.join(CHECKS)}.")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float64 or torch.float32, got {dtype}.")
    if granularity < 1 or (num_frames is not None and num_frames < MIN_FRAMES):
        raise ValueError(
            f"num_frames must be {MIN_FRAMES} or more and granularity 1 or more, got {num_frames} and {granularity}."
        )
    if isinstance(encoder, nn.Module):
        encoder = copy.deepcopy(encoder).eval().to(device, dtype)
    declared = as_reach(reach, encoder)
    frames = enough_frames(declared) if num_frames is None else num_frames
    under_test = EncoderUnderTest(encoder, features, declared, dtype, frames, granularity, seed, torch.device(device))
    title = name or getattr(encoder, "__name__", type(encoder).__name__)
    return Findings(title, {check: run(CHECKS[check], under_test) for check in checks})


def check_attention(
    attention: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
    context: Context,
    *,
    name: str = "",
    num_heads: int = 2,
    head_dim: int = 8,
    dtype: torch.dtype = torch.float64,
    num_frames: int | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    checks: Sequence[str] = tuple(CHECKS),
) -> Findings:
    """Check ``attention(q, k, v [B, H, T, D], lengths [B]) -> [B, H, T, D]``.

    An attention is an encoder whose input frame holds a query, a key and a value for each head; arguments are those
    of `check_encoder`.

    Examples:
        >>> from speechattn.attention.functional import attention
        >>> context = Context.truncated(4, 2)
        >>> found = check_attention(lambda q, k, v, lengths: attention(q, k, v, context, lengths=lengths), context)
        >>> found.failed
        []
    """

    def encoder(frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = frames.view(*frames.shape[:2], 3, num_heads, head_dim).permute(2, 0, 3, 1, 4)
        return attention(q, k, v, lengths).transpose(1, 2).flatten(2), lengths

    return check_encoder(
        encoder,
        3 * num_heads * head_dim,
        context,
        name=name or getattr(attention, "__name__", type(attention).__name__),
        dtype=dtype,
        num_frames=num_frames,
        seed=seed,
        device=device,
        checks=checks,
    )


def what_is_checked() -> dict[str, str]:
    """Return one sentence for each check, in their order.

    Examples:
        >>> what_is_checked()["repeat"]
        'The same call twice gives the same bits.'
    """
    sentences = {
        name: (check.__doc__ or "").splitlines()[0].removeprefix("Check that ") for name, check in CHECKS.items()
    }
    return {name: sentence[0].upper() + sentence[1:] for name, sentence in sentences.items()}


def run(check: Callable[[EncoderUnderTest], CheckResult], under_test: EncoderUnderTest) -> CheckResult:
    """Return the result of one check; an exception is a failure, with its first line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # unusual inputs are intended here
            return check(under_test)
    except NotOfferedError as exception:
        return CheckResult(NOT_OFFERED, None, "", str(exception))
    except NonconformingError as exception:
        return CheckResult(FAILED, math.inf, "wrong answer", f"{str(exception)[0].upper()}{str(exception)[1:]}")
    except Exception as exception:  # any exception of an implementation is a finding
        line = first_line(exception)
        return CheckResult(FAILED, math.inf, f"raises {type(exception).__name__}", f"{line[0].upper()}{line[1:]}")

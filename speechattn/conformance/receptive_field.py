"""Checks of the receptive field, by gradients and by changing frames, against the declared one.

An input frame is inside when a gradient that is not 0 flows to it, or when changing it changes the output. A ReLU that
is dead for one draw of random numbers is alive for another: there are at least two draws, and up to sixteen while a
declared frame has had no effect.
"""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.conformance.results import FAILED, PASSED, CheckResult, NonconformingError, NotOfferedError, judge
from speechattn.conformance.under_test import EncoderUnderTest

DRAWS = range(2, 17)


def reach(under_test: EncoderUnderTest) -> CheckResult:
    """Check that the frames that a gradient reaches are exactly the declared ones, for every output frame."""
    touched = reached_by_gradient(under_test)
    declared = declared_reach(under_test, under_test.num_frames)
    leaks, missing = touched & ~declared, declared & ~touched
    leaking, lacking = int(leaks.any(1).sum()), int(missing.any(1).sum())
    if not leaking and not lacking:
        frames = touched.shape[0]
        return CheckResult(PASSED, 0.0, "0", f"All {frames} output frames depend on exactly the frames declared.")
    count = int(leaks.sum() + missing.sum())
    meaning = (
        f"Of {touched.shape[0]} output frames {leaking} depend on frames outside the declared reach (at most "
        f"{int(leaks.sum(1).max())} of them), {lacking} do not depend on frames inside (at most "
        f"{int(missing.sum(1).max())})."
    )
    return CheckResult(FAILED, float(count), f"{leaking} leak, {lacking} lack", meaning)


def outside(under_test: EncoderUnderTest) -> CheckResult:
    """Check that changing a frame outside the declared reach changes nothing."""
    changes, allowed = changed_by_frames(under_test, under_test.num_frames)
    declared = declared_reach(under_test, under_test.num_frames)
    if bool(declared.all()):
        raise NotOfferedError(f"The declared reach covers all {changes.shape[1]} frames; nothing lies outside.")
    outer = changes[~declared]
    meaning = (
        f"Of {outer.numel()} pairs outside the reach {int((outer > allowed).sum())} show a change, of {{}} at most."
    )
    return judge(float(outer.max()), allowed, meaning)


def window(under_test: EncoderUnderTest) -> CheckResult:
    """Check that the whole declared window is used: each frame in it counts, also when the window is longer than the audio."""  # noqa: E501 - one sentence of docs/conformance.md
    lost, looked_at = 0, 0
    width = int(declared_reach(under_test, under_test.num_frames).sum(1).max())
    for num_frames in (under_test.num_frames, max(2, min(width, under_test.num_frames) // 2)):
        changes, _ = changed_by_frames(under_test, num_frames)
        inner = changes[declared_reach(under_test, num_frames)]
        # A far frame may have a tiny weight: any change of bits counts.
        lost += int((inner == 0).sum())
        looked_at += inner.numel()
    return judge(
        float(lost), 0, f"{{}} of {looked_at} pairs of an output frame and a frame in its window are lost.", "lost"
    )


def sides(under_test: EncoderUnderTest) -> CheckResult:
    """Check that left and right differ as declared: the longer side is seen, as far on the shorter side nothing is."""
    touched = reached_by_gradient(under_test)
    if touched.shape[0] != touched.shape[1]:
        raise NotOfferedError("Output frames are not input frames, so that left and right have no common centre.")
    frames, wrong, looked_at = touched.shape[0], 0, 0
    for i in range(frames):
        start, stop = under_test.reach(i, frames)
        before, after = i - start, stop - 1 - i
        shorter, longer = min(before, after), max(before, after)
        if i - longer < 0 or i + longer >= frames:
            continue  # clipped by an end of the audio
        for distance in range(shorter + 1, longer + 1):
            seen = bool(touched[i, i - distance]), bool(touched[i, i + distance])
            wrong += seen != (before == longer, after == longer)
            looked_at += 1
    if not looked_at:
        raise NotOfferedError("The declared window is as long on the left as on the right.")
    return judge(
        float(wrong), 0, f"{{}} of {looked_at} pairs of frames at one distance, left and right, are wrong.", "wrong"
    )


def declared_reach(under_test: EncoderUnderTest, num_frames: int) -> Tensor:
    """Return bool [output frames, num_frames], True = declared to depend."""
    output_frames = len(under_test.rows(under_test.frames(1, num_frames))[0])
    declared = torch.zeros(output_frames, num_frames, dtype=torch.bool)
    for i in range(output_frames):
        start, stop = under_test.reach(i, num_frames)
        declared[i, start:stop] = True
    return declared


def reached_by_gradient(under_test: EncoderUnderTest) -> Tensor:
    """Return bool [output frames, input frames], True = a gradient that is not 0 flows from one to the other."""
    declared = declared_reach(under_test, under_test.num_frames)
    touched = torch.zeros_like(declared)
    for draw in range(DRAWS.stop):
        if draw >= DRAWS.start and bool(touched[declared].all()):
            break
        frames = under_test.frames(1, under_test.num_frames, salt=100 + draw).requires_grad_()
        output, lengths = under_test(frames)
        if not output.requires_grad:
            raise NonconformingError("no gradient flows from the output to the input.")
        # The sum of a normalised frame is constant and has no gradient: a random projection has one.
        probe = torch.randn(output.shape[2], generator=torch.Generator().manual_seed(draw)).to(output.dtype)
        for i in range(lengths[0]):
            (gradient,) = torch.autograd.grad(output[0, i] @ probe, frames, retain_graph=True)
            touched[i] |= (gradient[0] != 0).any(1)
    return touched


def changed_by_frames(under_test: EncoderUnderTest, num_frames: int) -> tuple[Tensor, float]:
    """Return the largest change [output frames, input frames] when a frame changes, and what rounding allows."""
    declared = declared_reach(under_test, num_frames)
    changes, allowed = torch.zeros(declared.shape, dtype=under_test.dtype), 0.0
    for draw in range(DRAWS.stop):
        if draw >= DRAWS.start and bool((changes != 0)[declared].all()):
            break
        frames, others = under_test.frames(1, num_frames, 200 + draw), 10 * under_test.frames(1, num_frames, 300 + draw)
        before = under_test.rows(frames)[0]
        allowed = max(allowed, under_test.allowed(before))
        for j in range(num_frames):
            changed = frames.clone()
            changed[:, j] = others[:, j]
            change = (under_test.rows(changed)[0] - before).abs().amax(1)
            changes[:, j] = torch.maximum(changes[:, j], change)
    return changes, allowed

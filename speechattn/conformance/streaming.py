"""Checks that a stream equals the offline output: for any pushes, on time, in bounded memory, without side effects.

A stream is three methods: `initial_state(batch_size)`, `step(frames [B, n, F], state) -> (output [B, m, D], state)` for
any n from 0 on, and `flush(state) -> output`, the pending frames.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from speechattn.conformance.results import (
    FAILED,
    PASSED,
    CheckResult,
    NonconformingError,
    NotOfferedError,
    judge,
    judge_cases,
)
from speechattn.conformance.under_test import EncoderUnderTest, difference

FAR = 10_000
"""Frames after which a receptive field counts as unlimited."""


def stream(under_test: EncoderUnderTest) -> CheckResult:
    """Check that streamed equals offline, whatever the pushes: one by one, all at once, random, empty."""
    require_stream(under_test)
    unit = under_test.granularity
    total = math.ceil(under_test.num_frames / unit) * unit
    frames = under_test.frames(1, total, 70)
    (expected,) = under_test.rows(frames)
    splits: dict[str, list[int]] = {
        "smallest pushes": [unit] * (total // unit),
        "all at once": [total],
        "empty pushes": [0, unit, 0, 0, total - unit, 0],
        **{f"random pushes {n}": pushes(total, unit, seed=n) for n in (1, 2, 3, 4)},
    }
    cases = {
        name: lambda sizes=sizes: stream_error(under_test, frames, sizes, expected) for name, sizes in splits.items()
    }
    return judge_cases(cases, under_test.allowed(expected), "Streamed and offline differ by {}.")


def stream_end(under_test: EncoderUnderTest) -> CheckResult:
    """Check that streamed equals offline for audio of any length: the last chunk may be a part of one."""
    require_stream(under_test)
    unit = under_test.granularity
    longest = under_test.num_frames
    lengths = sorted({0, 1, 2, 3, 5, 8, 13, 16, 21, *(max(1, longest - n) for n in range(unit + 2))})
    allowed = under_test.allowed(under_test.rows(under_test.frames(1, longest, 71)))

    def error(total: int) -> float:
        if not total:
            return float(under_test.flush(under_test.initial_state(1)).shape[1])
        frames = under_test.frames(1, total, 71)
        (expected,) = under_test.rows(frames)
        splits = ([unit] * (total // unit) + [total % unit], pushes(total, unit, seed=total))
        return max(stream_error(under_test, frames, sizes, expected) for sizes in splits)

    cases = {f"T={total}": lambda total=total: error(total) for total in lengths}
    return judge_cases(cases, allowed, "Streamed and offline differ by {}, for every length tried.")


def stream_on_time(under_test: EncoderUnderTest) -> CheckResult:
    """Check that a frame comes out with the push that completes its declared reach, not later."""
    require_stream(under_test)
    unit = under_test.granularity
    total = math.ceil(under_test.num_frames / unit) * unit
    frames = under_test.frames(1, total, 72)
    last = len(under_test.rows(frames)[0])
    given, emitted, due, latest = 0, 0, 0, 0
    for output in outputs_of(under_test, frames, [unit] * (total // unit), flush=False):
        given, emitted = given + unit, emitted + output.shape[1]
        while due < last and under_test.reach(due, total + FAR)[1] <= given:
            due += 1
        latest = max(latest, due - emitted)
    return judge(float(latest), 0, "At most {} frames are held back although all they depend on has arrived.", "late")


def stream_memory(under_test: EncoderUnderTest) -> CheckResult:
    """Check that the state stops growing once the stream is longer than the reach."""
    require_stream(under_test)
    unit = under_test.granularity
    warm, total = (math.ceil(n * under_test.num_frames / unit) * unit for n in (2, 6))
    state, sizes = under_test.initial_state(1), []
    for part in torch.split(under_test.frames(1, total, 73), unit, 1):
        _, state = under_test.step(part, state)
        sizes.append(bytes_of(state))
    before, after = max(sizes[: warm // unit]), max(sizes[warm // unit :])
    meaning = f"The state holds at most {before} bytes in the first {warm} frames and {after} in {total - warm} more."
    if after <= before:
        return CheckResult(PASSED, float(after), f"{after} bytes", meaning)
    if under_test.reach(warm // 2, total)[0] == 0:
        raise NotOfferedError(f"The reach has no limit on the left, so the state has to grow. {meaning}")
    return CheckResult(FAILED, float(after), f"{before} to {after} bytes", meaning)


def stream_purity(under_test: EncoderUnderTest) -> CheckResult:
    """Check that a state is never changed: the same call twice gives the same answer, and flushing spoils nothing."""
    require_stream(under_test)
    unit = under_test.granularity
    total = math.ceil(under_test.num_frames / unit) * unit
    frames, more = under_test.frames(1, total, 74), under_test.frames(1, unit, 76)
    state = under_test.initial_state(1)
    for part in torch.split(frames, unit, 1):
        _, state = under_test.step(part, state)

    first = under_test.step(more, state)[0]
    cases = {
        "step twice": lambda: difference(under_test.step(more, state)[0], first),
        "flush twice": lambda: difference(under_test.flush(state), under_test.flush(state)),
        "step after flush": lambda: difference(under_test.step(more, state)[0], first),
    }
    return judge_cases(cases, under_test.allowed(under_test.rows(frames)), "The same call twice differs by {}.")


def stream_batch(under_test: EncoderUnderTest) -> CheckResult:
    """Check that streams in one batch equal each alone."""
    require_stream(under_test)
    unit = under_test.granularity
    total = math.ceil(under_test.num_frames / unit) * unit
    frames, sizes = under_test.frames(3, total, 75), pushes(total, unit, seed=5)
    together = torch.cat(outputs_of(under_test, frames, sizes), 1)
    alone = torch.cat([torch.cat(outputs_of(under_test, row[None], sizes), 1) for row in frames])
    return judge(difference(together, alone), under_test.allowed(alone), "A stream alone or in a batch differs by {}.")


def require_stream(under_test: EncoderUnderTest) -> None:
    """Refuse an encoder that cannot stream.

    Raises:
        NotOfferedError: it has no stream, or there can be none.
    """
    if not under_test.streams:
        raise NotOfferedError("No stream: it has no methods initial_state, step and flush.")
    if under_test.reach(0, FAR)[1] >= FAR:
        raise NotOfferedError("The reach has no limit on the right: no frame could come out before the end.")


def pushes(total: int, unit: int, seed: int) -> list[int]:
    """Return random sizes that sum to `total`: multiples of `unit`, some of them 0, and a remainder at the end."""
    generator, sizes, left = random.Random(seed), list[int](), total
    while left >= unit:
        sizes.append(min(left // unit, generator.choice([0, 1, 1, 1, 2, 3, 5, 9, 17])) * unit)
        left -= sizes[-1]
    return [*sizes, left] if left else sizes


def outputs_of(under_test: EncoderUnderTest, frames: Tensor, sizes: Sequence[int], flush: bool = True) -> list[Tensor]:
    """Return the output of each push, and of the flush."""
    outputs, state = [], under_test.initial_state(frames.shape[0])
    for part in torch.split(frames, list(sizes), 1):
        output, state = under_test.step(part, state)
        outputs.append(output)
    return [*outputs, under_test.flush(state)] if flush else outputs


def stream_error(under_test: EncoderUnderTest, frames: Tensor, sizes: list[int], expected: Tensor) -> float:
    """Return the largest difference of a stream of one row from `expected` [T', D].

    Raises:
        NonconformingError: the stream gives another number of frames.
    """
    found = torch.cat(outputs_of(under_test, frames, sizes), 1)[0]
    if len(found) != len(expected):
        raise NonconformingError(f"the stream gives {len(found)} of {len(expected)} frames.")
    return difference(found, expected)


def bytes_of(state: Any) -> int:
    """Return the bytes that a state of any type keeps alive; a view keeps the whole storage."""
    seen, storages, todo = set[int](), dict[int, int](), [state]
    while todo:
        item = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(item, Mapping):
            todo += item.values()
        elif isinstance(item, (list, tuple, set, frozenset)):
            todo += item
        else:
            slots = [getattr(item, name, None) for name in getattr(item, "__slots__", ())]
            todo += [*slots, *getattr(item, "__dict__", {}).values()]
    return sum(storages.values())

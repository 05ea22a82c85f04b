"""A long recording as passages that overlap, so that every frame of every layer is that of the whole recording.

The hidden frames of a window around a frame depend on more frames than the window: a passage has the receptive field
of the encoder on both sides of its own frames, and begins where the chunks of all layers begin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from speechattn.context import Context
from speechattn.encoder.frames_encoder import FramesEncoder
from speechattn.receptive_field import lookahead, lookback

PASSAGE_FRAMES = 3000
"""Own frames of a passage: 30 s."""
ABSOLUTE_POSITIONS = ("sinusoidal", "learned")


class Passage(NamedTuple):
    """Frames [n, F] from frame `first` of the recording on; those in [start, stop), from `first` on, are its own."""

    frames: Tensor
    first: int
    start: int
    stop: int


def needs_whole(encoder: torch.nn.Module) -> str:
    """Return why an encoder must read a recording in one piece, or "" if passages have the same hidden frames."""
    if not isinstance(encoder, FramesEncoder):
        return f"{type(encoder).__name__} is a module of your own, whose receptive field is not known"
    config = encoder.config
    if lookback(config.contexts) is None or lookahead(config.contexts) is None:
        return "its windows are unlimited"
    if config.position_encoding in ABSOLUTE_POSITIONS:
        return f"its {config.position_encoding} positions count from the beginning"
    return ""


def whole_passage(blocks: Iterable[Tensor]) -> Iterator[Passage]:
    """Yield one passage with all frames [T, F] of the blocks; none if there are no frames."""
    found = list(blocks)
    if found and (total := sum(map(len, found))):
        yield Passage(torch.cat(found), 0, 0, total)


class Margins(NamedTuple):
    """What passages need: frames before and after the own ones, and the frames after which chunks begin together."""

    before: int
    after: int
    period: int


def margins(stacks: Iterable[Sequence[Context]]) -> Margins | None:
    """Return the margins that are enough for each stack of contexts, in input frames; None if one has no limit.

    Examples:
        >>> margins([[Context.truncated(5, 0)], [Context.chunked(4, left=2, right=1)]])
        Margins(before=5, after=4, period=4)
    """
    before, after, period = 0, 0, 1
    for contexts in stacks:
        back, ahead = lookback(contexts), lookahead(contexts)
        if back is None or ahead is None:
            return None
        before, after = max(before, back), max(after, ahead)
        period = math.lcm(period, *(context.chunk for context in contexts))
    return Margins(before, after, period)


def passages(blocks: Iterable[Tensor], needed: Margins, own_frames: int = PASSAGE_FRAMES) -> Iterator[Passage]:
    """Yield passages whose own frames are all frames of the blocks [n, F], in order and once.

    Examples:
        >>> found = list(passages([torch.zeros(10, 1)], Margins(before=2, after=1, period=1), own_frames=4))
        >>> [(passage.first, len(passage.frames), passage.start, passage.stop) for passage in found]
        [(0, 5, 0, 4), (2, 7, 2, 6), (6, 4, 2, 4)]
    """
    before, after, period = needed
    own_frames = -(-own_frames // period) * period  # own frames begin with a chunk, and so do those before them
    kept: Tensor | None = None
    first = done = 0
    for block in blocks:
        kept = block if kept is None else torch.cat([kept, block])
        while first + len(kept) >= done + own_frames + after:
            yield Passage(kept[: done + own_frames + after - first], first, done - first, done + own_frames - first)
            done += own_frames
            begin = max(0, done - before) // period * period
            kept, first = kept[begin - first :].clone(), begin
    if kept is not None and first + len(kept) > done:
        yield Passage(kept, first, done - first, len(kept))

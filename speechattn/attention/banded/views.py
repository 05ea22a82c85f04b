"""Views of tensors as blocks and windows of frames, made once, and the workspace that tiles share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Blocks of queries and windows of keys that have one shape.

    Block n holds the `block` queries from `start + n * block` on, and sees the `window` keys from
    `key_start + n * block` on.
    """

    start: int
    block: int
    key_start: int
    window: int

    def whole(self, last: int, length: int) -> int:
        """Return how many blocks end by `last` and have their window inside a row of `length` frames."""
        keys_behind = self.key_start + self.window - (self.start + self.block)
        return max(0, (min(last, length - keys_behind) - self.start) // self.block)


class FrameViews:
    """A tensor [B, H, T, D] whose first frame is frame `origin`, and its views, which take time to make."""

    def __init__(self, tensor: Tensor, grid: Grid | None, origin: int = 0) -> None:
        self.tensor, self.origin = tensor, origin
        self.grid = Grid(0, 1, 0, 1) if grid is None else grid

    @cached_property
    def blocks(self) -> Tensor:
        """[B, H, blocks, block, D]."""
        return self._views(self.grid.start, self.grid.block)

    @cached_property
    def windows(self) -> Tensor:
        """[B, H, blocks, window, D], overlapping."""
        return self._views(self.grid.key_start, self.grid.window)

    @cached_property
    def lanes(self) -> list[tuple[Tensor, ...]]:
        """[T, D] of every row and head."""
        return [row.unbind() for row in self.tensor.unbind()]

    @cached_property
    def block_lanes(self) -> list[tuple[Tensor, ...]]:
        """[blocks, block, D] of every row and head."""
        return [row.unbind() for row in self.blocks.unbind()]

    @cached_property
    def window_lanes(self) -> list[tuple[Tensor, ...]]:
        """[blocks, window, D] of every row and head."""
        return [row.unbind() for row in self.windows.unbind()]

    def part(self, rows: int | slice, start: int, frames: int) -> Tensor:
        """Return [H, frames, D] of one row, or [rows, H, frames, D] of several."""
        return self.tensor[rows, :, start - self.origin : start - self.origin + frames]

    def _views(self, start: int, width: int) -> Tensor:
        # Not as_strided, which takes an offset into the storage: torch.compile remembers that of the first call.
        return self.tensor[:, :, start - self.origin :].unfold(2, width, self.grid.block).transpose(3, 4)


class Workspace:
    """Memory that tiles use one after the other: to get it from the system again costs as much as a product."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self._flat: dict[str, Tensor] = {}
        self._views: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Return an uninitialised tensor in the memory of this name."""
        view = self._views.get((name, shape))
        if view is None:
            size, flat = math.prod(shape), self._flat.get(name)
            if flat is None or flat.numel() < size:
                self._views = {key: kept for key, kept in self._views.items() if key[0] != name}
                flat = self._flat[name] = self.like.new_empty(size)
            view = self._views[name, shape] = flat[:size].view(shape)
        return view

"""Sizes and thresholds that decide how a computation is split: used by the computation and by its planner."""

from __future__ import annotations

from speechattn.context import Context

SHORT = 512
"""Frames up to which full attention with a bias is one dense product: blocks would save nothing."""
NATIVE_KEYS = 4096
"""Keys of a query up to which native beats banded, whose large matrix products catch up as windows grow."""
NATIVE_FEATURES = 8
"""The features of a head must be a multiple of this for native."""
CPU_FRAMES, DEVICE_FRAMES = 1024, 65536
"""Frames at a time: few enough for a CPU's cache, or many enough to keep a device busy."""

TILE_BATCH_BYTES = 800_000
"""Scores that banded attention computes at a time: few calls, and they still fit the second-level cache, or nearly."""
FUSED_FRAMES = 512
"""Queries that torch's attention kernel gets at once: it works in the cache anyway, but its output is copied."""

FEW_WINDOWS = 4
"""Whole windows of a row that are gathered with its ends, rather than make a call of their own."""
WINDOWS_BYTES = 2**27
"""Gradients of the windows of one piece: what their backward pass needs beyond its results, whatever T is."""
MAX_WINDOWS = 2**15
"""Windows of one call. CUDA's grids end at 65535 in the dimension that torch's kernels count them in."""


def automatic(context: Context, num_frames: int, plain: bool, native: bool, learning: bool = False) -> str:
    """Return the backend that "auto" takes for so many frames.

    `plain` says that scores are softmax without a bias, `native` that numba's loops could take the call, `learning`
    that gradients are wanted on a CPU: those of torch's own kernel are wrong for large scores.
    """
    if plain and not learning and context.left is context.right is None:
        return "sdpa"
    if native and min(context.window or num_frames, num_frames) <= NATIVE_KEYS:
        return "native"
    return "dense" if context.left is context.right is None and num_frames <= SHORT else "banded"


def frames_at_once(batch_size: int, num_frames: int, on_cpu: bool = True) -> int:
    """Return the frames of each row to process at a time, for a per-frame function without gradients."""
    most = max(1, (CPU_FRAMES if on_cpu else DEVICE_FRAMES) // max(batch_size, 1))
    return num_frames if num_frames < 2 * most else most


def block_size(context: Context) -> int:
    """Return the queries of a block of banded attention.

    A block wastes (block + left + right) / (left + 1 + right) products on masked pairs: small windows want
    small blocks, large ones want large matrix products. Blocks of a chunked context hold whole chunks.
    """
    if context.window is None:
        return 64
    if context.chunk > 1:
        return context.chunk * max(1, 64 // context.chunk) if context.chunk <= 128 else 128
    return 16 if context.window <= 48 else 32 if context.window < 256 else 64


def window_block(context: Context, on_cpu: bool = True) -> int:
    """Return the queries of a window: whole chunks, and no more masked pairs than the kernel's tiles compute anyway.

    A tile of a CUDA kernel has at least 64 queries. On a CPU, small windows want small blocks.
    """
    assert context.window is not None
    if context.chunk > 1:
        return context.chunk if context.chunk >= 32 else context.chunk * (64 // context.chunk)
    if on_cpu:
        return 16 if context.window <= 48 else 32 if context.window < 256 else 64
    return 64


def windows_at_once(num_heads: int, features: int, block: int, window: int, item: int) -> int:
    """Return the most windows of one piece, `window` keys for `block` queries of all heads in each."""
    numbers = max(num_heads, 1) * window * (2 * max(features, 1) + 2 * block)
    return max(1, min(MAX_WINDOWS, WINDOWS_BYTES // (item * numbers)))

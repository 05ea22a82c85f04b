"""Which way a computation goes, by sizes alone: the rules that both the computation and its planner follow."""

from __future__ import annotations

from speechattn.context import Context

SHORT = 512
"""Frames up to which full attention with a bias is one dense product: blocks would save nothing."""
NATIVE_KEYS = 4096
"""Keys of a query up to which native beats banded, whose large matrix products catch up as windows grow."""
NATIVE_FEATURES = 8
"""What the features of a head must be a multiple of for native."""
CPU_FRAMES, DEVICE_FRAMES = 1024, 65536
"""Frames at a time: few enough for a CPU's cache, or many enough to keep a device busy."""

SLAB_BYTES = 800_000
"""Scores that banded attention makes at a time: few calls, and they are still in the second-level cache, or near it."""


def automatic(context: Context, num_frames: int, plain: bool, native: bool) -> str:
    """The execution that "auto" takes for so many frames.

    `plain` says that scores are softmax without a bias, `native` that numba's loops could take the call.
    """
    if plain and context.left is context.right is None:
        return "sdpa"
    if native and min(context.window or num_frames, num_frames) <= NATIVE_KEYS:
        return "native"
    return "dense" if context.left is context.right is None and num_frames <= SHORT else "banded"


def frames_at_once(batch_size: int, num_frames: int, on_cpu: bool = True) -> int:
    """Frames of each row that are done at a time where each frame is done by itself, and no gradient is wanted."""
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

"""Memory inside attention, by backend: the workspace of one call, and what autograd saves of its scores.

Follows attention/dense.py, attention/banded/ and attention/cuda/sdpa_windows.py. Queries, keys, values and the output
are not counted here.
"""

from __future__ import annotations

from speechattn.context import Context
from speechattn.heuristics import FEW_WINDOWS, FUSED_FRAMES, TILE_BATCH_BYTES, block_size, window_block, windows_at_once
from speechattn.planning.shapes import PLAIN_POSITION_ENCODINGS, WIDE, Shapes

BLOCK = 64
"""Queries of a block of banded attention over a long window."""


def score_bytes(batch_size: int, num_heads: int, num_frames: int, item: int, biased: bool) -> int:
    """Return the bytes of all T x T tensors of dense attention without gradients (attention/dense.py)."""
    pairs, item = num_frames**2, max(item, WIDE)
    scores = batch_size * num_heads * pairs
    if not biased:
        return 2 * scores * item + 3 * batch_size * pairs  # scores before and after a step, and three masks
    # While the bias is added it is there twice; then three masks are as many numbers as the scores.
    added = num_heads * pairs * (item + 1)
    return 2 * scores * item + batch_size * pairs + added + max(num_heads * pairs * item + scores, 3 * scores)


def attention_workspace(shapes: Shapes, context: Context, gradients: bool) -> int:
    """Return the bytes that a backend needs beside its inputs and its output."""
    config, frames = shapes.config, shapes.stacked
    backend = shapes.backend(context, gradients)
    batch, heads = shapes.batch_size, config.num_heads
    width = max(WIDE, shapes.item)
    if backend == "native":
        return 8 * frames  # where each query's keys begin and end
    if backend == "dense":
        if gradients:
            return (batch + shapes.biased) * heads * frames**2 * width  # the gradient of one step is freed by the next
        copies = 0 if shapes.item < WIDE else 3 * shapes.hidden  # queries, keys and values without padding
        return copies + score_bytes(batch, heads, frames, shapes.item, shapes.biased)
    if backend == "sdpa":
        return batch * heads * frames * WIDE + (4 * shapes.hidden if shapes.ragged else 0)
    if backend == "windows" and context.limited:
        return _windows_workspace(shapes, context.within(frames), gradients)
    keys = frames if context.window is None else min(frames, context.window + BLOCK)
    tables = 1 if config.position_encoding in PLAIN_POSITION_ENCODINGS else heads
    # Masks with the bias of each head, and the index that gathers them from the table; during their use those of a
    # tile batch and a boundary tile once more, without queries that see nothing.
    masks = BLOCK * keys * (2 * tables * width + (20 if tables > 1 else 12))
    if shapes.biased:
        masks = BLOCK * keys * max(2 * heads * width + 20, (3 * width + 1) * heads + 10)
    if config.activation == "softmax" and not gradients:
        # torch's kernel keeps its scores in the cache; its output, and the log-sums of its weights, are copied.
        return masks + min(frames, FUSED_FRAMES) * (config.d_model + heads) * width
    block = block_size(context)
    window = min(frames, context.block_window(block) or frames)
    one = block * window * width
    together = min(batch * heads * -(-frames // block), TILE_BATCH_BYTES // max(one, 1))
    scores = max(BLOCK * keys * heads * width, one * together)
    products = scores * (config.d_model // heads) // max(window, 1)  # queries, heads and their like beside the scores
    return masks + (3 * scores + 4 * products if gradients else scores + products)


def _windows_workspace(shapes: Shapes, context: Context, gradients: bool) -> int:
    """Return the bytes of attention over windows, views or gathered copies (attention/cuda/sdpa_windows.py)."""
    rows, heads, frames = shapes.batch_size, shapes.config.num_heads, shapes.stacked
    features = shapes.config.d_model // heads
    width = max(WIDE, shapes.item) if gradients else shapes.item
    block = window_block(context)
    start, stop = context.span(0)[0], context.span(block - 1)[1]
    assert start is not None and stop is not None
    window = stop - start
    most = windows_at_once(heads, features, block, window, shapes.item)
    blocks = -(-frames // block)
    inside = max(0, (frames - stop) // block + 1 + start // block)  # start is not above 0
    if inside <= FEW_WINDOWS:
        inside = 0
    whole, gathered = min(inside, most), min(rows * (blocks - inside), most)
    keys, queries, scores = (heads * size * width for size in (window * features, block * features, block * window))
    pairs = block * window  # of all heads: masks, and columns of the table
    if gradients:
        # Keys and values as products read them, and their gradients; scores, weights and theirs.
        each = 4 * keys + 3 * scores + 2 * queries
        copied = 6 * keys + (4 + shapes.biased) * scores + 2 * queries + 10 * pairs
        results = 3 * shapes.hidden * width // shapes.item
        return results + max(whole * each, gathered * copied, results if width > shapes.item else 0)
    each = (1 + shapes.biased) * queries
    copied = 2 * keys + 2 * queries + (10 + width) * pairs
    if shapes.biased:
        copied = 2 * keys + 3 * queries + 2 * scores + 11 * pairs
    return max(whole * each + 3 * scores, gathered * copied)


def saved_scores(shapes: Shapes) -> int:
    """Return what autograd saves of dense attention: weights twice, masks, and the columns of the bias table."""
    pairs, rows, heads = shapes.stacked**2, shapes.batch_size, shapes.config.num_heads
    weights = 2 * rows * heads * pairs * max(WIDE, shapes.item)
    if not shapes.biased:
        return weights + 3 * rows * pairs
    return weights + (2 * rows + 1) * heads * pairs + 8 * pairs

"""Memory that glibc and MKL keep after tensors were freed; the numbers are fitted to measured processes.

Without gradients blocks of INFERENCE_BLOCK and more go back to the system when they are freed. Smaller ones stay in
glibc's heap, and MKL keeps the copies that it makes for products in float64. scripts/check_planner.py measures it.
"""

from __future__ import annotations

from speechattn.config import ATTENTION_BLOCKS
from speechattn.heuristics import frames_at_once
from speechattn.planning.shapes import BYTES, Shapes
from speechattn.system.process_memory import INFERENCE_BLOCK

PACKED_ROWS, PACKED_FEATURES = 5000, 256
"""Most rows and features of a float64 product that MKL copies at a time into memory that it keeps: measured."""


def kept_blocks(shapes: Shapes) -> dict[str, int]:
    """Return the bytes of blocks below INFERENCE_BLOCK in glibc's heap, and of MKL, where hidden tensors are larger.

    The heap grows to twice what is in use: an aligned block does not fit into the hole of a block of its own size.
    """
    config = shapes.config
    if shapes.hidden < INFERENCE_BLOCK:
        return {}
    # Frames that were copied at the input; min, so that an estimate never shrinks as rows grow.
    alive = {"frames as they entered": min(2 * shapes.entered, INFERENCE_BLOCK)}
    at_once = frames_at_once(shapes.batch_size, shapes.stacked)
    if config.block in ATTENTION_BLOCKS and at_once < shapes.stacked:
        width = shapes.batch_size * at_once * shapes.item
        # The frames of a chunk, their sum with attention and their norm; in a conformer both halves of a gate.
        frames = (4 if config.block == "conformer" else 3) * width * config.d_model
        inside = width * config.feed_forward_dim
        # Larger ones are returned, except those of the last chunk of a row, which is shorter.
        alive["chunks of a feed-forward layer"] = 2 * frames + (
            4 * inside if inside < INFERENCE_BLOCK else INFERENCE_BLOCK
        )
    if config.block in ATTENTION_BLOCKS and config.position_encoding == "rotary":
        angles = BYTES["float64"] * shapes.stacked * (config.d_model // config.num_heads // 2)
        alive["angles"] = min(angles, INFERENCE_BLOCK)
        if shapes.hidden < 2 * INFERENCE_BLOCK:  # the halves of queries and keys that are turned
            alive["turned halves"] = 2 * shapes.hidden
    if shapes.dtype == "float64":
        alive["packed products"] = packed_products(shapes)
    return alive


def packed_products(shapes: Shapes) -> int:
    """Return the bytes that MKL keeps of copies for products in float64; in float32 they are a few MB."""
    config, rows = shapes.config, min(shapes.batch_size * shapes.stacked, PACKED_ROWS)
    # In powers of two.
    entry, inner = (min(1 << (n - 1).bit_length(), PACKED_FEATURES) for n in (config.entry_dim, config.d_model))
    # The first product is that of the input layer; a later one that needs more takes additional memory.
    return rows * (entry + (inner if config.d_model > config.entry_dim else 0)) * shapes.item

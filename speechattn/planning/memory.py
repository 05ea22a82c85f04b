"""What is alive at the moments when an encoder needs most memory, in bytes, from shapes alone.

A pass has few moments that can be its peak: while attention has its queries, keys and values, while a feed-forward
layer has its inside, when the first gradient flows. Each is listed here with all that is alive then, and the largest of
them is the peak. The lists follow encoder/encoder.py, blocks.py, encoder/self_attention.py and
encoder/chunked_apply.py line by line, and what
torch's autograd keeps for the gradient; scripts/check_planner.py holds them against measured processes.

Without gradients large tensors go back to the system when they are freed, and small blocks stay in the C library's
heap: they are counted beside the tensors of a moment. Not counted: weights and the caller's input.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from speechattn.config import ATTENTION_BLOCKS, NO_SPLICE, EncoderConfig
from speechattn.context import Context
from speechattn.heuristics import (
    FEW_WINDOWS,
    NATIVE_FEATURES,
    TILE_BATCH_BYTES,
    automatic,
    block_size,
    frames_at_once,
    window_block,
    windows_at_once,
)
from speechattn.system.process_memory import INFERENCE_BLOCK

BYTES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
WIDE = 4
"""Bytes of float32, in which half precision is attended."""
BLOCK = 64
"""Queries of a block of banded attention over a long window."""
MOST_TAPS = 13
"""Taps up to which oneDNN differentiates a full convolution; of a longer one torch copies every window."""
PACKED_ROWS, PACKED_FEATURES = 5000, 256
"""Most rows and features of a float64 product that MKL copies at a time into memory that it keeps: measured."""
LEAST_PACKED = 4_000_000
"""Bytes of a hidden tensor in training below which what MKL keeps is left out of a plan, which counts tensors then."""
PLAIN_POSITION_ENCODINGS = ("none", "sinusoidal", "learned")
"""Positions that leave attention without a bias."""


@dataclass(frozen=True)
class Moment:
    """One moment of a pass: where it is, and the bytes of all that is alive then, by what they are."""

    where: str
    alive: Mapping[str, int]

    @property
    def num_bytes(self) -> int:
        """All of them."""
        return sum(self.alive.values())


@dataclass(frozen=True)
class Shapes:
    """What memory follows from: an encoder, so many rows of so many frames (before stacking), and a precision."""

    config: EncoderConfig
    num_frames: int
    batch_size: int = 1
    dtype: str = "float32"
    native: bool = True
    ragged: bool = False
    """Whether rows have lengths, and padding is set to zero."""

    @property
    def item(self) -> int:
        """Bytes of a number."""
        return BYTES[self.dtype]

    @property
    def stacked(self) -> int:
        """Frames of a row behind the stacking."""
        return self.num_frames // self.config.stack

    @property
    def hidden(self) -> int:
        """One tensor of hidden frames [B, T, D]: the unit that everything else is counted in."""
        return self.batch_size * self.stacked * self.config.d_model * self.item

    @property
    def inside(self) -> int:
        """What is inside a feed-forward layer once: [B, T, d_ff]."""
        return self.batch_size * self.stacked * self.config.feed_forward_dim * self.item

    @property
    def entered(self) -> int:
        """Frames beside their neighbours and stacked, where that is not the caller's own tensor."""
        config = self.config
        size = self.batch_size * self.stacked * config.entry_dim * self.item
        # Rows without their remainder lie apart: to stack their frames is a copy.
        apart = self.batch_size > 1 and self.num_frames % config.stack > 0
        return size if self.ragged or apart or config.splice != NO_SPLICE else 0

    @property
    def kernel(self) -> int:
        """Weights of one full convolution."""
        return self.config.conv_kernel * self.config.d_model**2 * self.item

    @property
    def biased(self) -> bool:
        """Whether a bias is added to scores."""
        return self.config.position_encoding not in (*PLAIN_POSITION_ENCODINGS, "rotary")

    def backend(self, context: Context, training: bool = False) -> str:
        """How a layer attends."""
        if self.config.backend != "auto":
            return self.config.backend
        plain = self.config.activation == "softmax" and self.config.position_encoding in PLAIN_POSITION_ENCODINGS
        whole = self.config.d_model // self.config.num_heads % NATIVE_FEATURES == 0
        return automatic(context, self.stacked, plain, self.native and self.dtype == "float32" and whole, training)


def score_bytes(batch_size: int, num_heads: int, num_frames: int, item: int, biased: bool) -> int:
    """Return the bytes of all that is T x T in dense attention without gradients; see `weights_of` in
    attention/dense.py.
    """
    pairs, item = num_frames**2, max(item, WIDE)
    scores = batch_size * num_heads * pairs
    if not biased:
        return 2 * scores * item + 3 * batch_size * pairs  # scores before and after a step, and three masks
    # While the bias is added it is there twice; then three masks are as many numbers as the scores.
    added = num_heads * pairs * (item + 1)
    return 2 * scores * item + batch_size * pairs + added + max(num_heads * pairs * item + scores, 3 * scores)


def inference(shapes: Shapes) -> Iterator[Moment]:
    """The moments of `Encoder.forward` without gradients."""
    config, hidden = shapes.config, shapes.hidden
    kept = _kept_blocks(shapes)
    frame = {"frames inside the encoder": hidden} | {f"kept by libraries: {name}": size for name, size in kept.items()}
    yield _entering(shapes)
    yield _placing(shapes)
    if config.block in ATTENTION_BLOCKS:
        begun = {"first half of the conformer block": hidden} if config.block == "conformer" else {}
        for context in dict.fromkeys(config.layer_contexts):
            yield Moment("attention", frame | begun | _attending(shapes, context))
        yield Moment("feed-forward", frame | begun | {"output of attention": hidden} | _feeding(shapes))
    if config.block in ("conformer", "cnn"):
        yield Moment("convolution", frame | _convolving(shapes))
    finished = {"padding set to zero": hidden} if shapes.ragged else {}
    yield Moment("last norm", frame | {"output": hidden} | finished)


def training(shapes: Shapes) -> Iterator[Moment]:
    """The moments of a forward and a backward pass."""
    config, hidden, layers = shapes.config, shapes.hidden, shapes.config.num_layers
    ends = {"output and its gradient": 2 * hidden, "gradient on its way": 2 * hidden + shapes.inside}
    if shapes.item < WIDE:
        ends["copies for products in half precision"] = shapes.inside + 3 * hidden
    if config.block == "cnn":
        columns = config.conv_kernel * hidden if config.conv_kernel > MOST_TAPS else 2 * shapes.kernel
        ends["gradient on its way"] = 2 * hidden + columns + 2 * shapes.kernel
    entry = {"frames as they entered": shapes.entered + hidden * bool(config.dropout)}
    if shapes.dtype == "float64" and hidden >= LEAST_PACKED:
        entry["kept by libraries: packed products"] = _packed_products(shapes)
    kept = [_kept(shapes, context) for context in config.layer_contexts]
    if config.gradient_checkpointing:
        again = max(kept, key=lambda layer: sum(layer.values()))
        inputs = {"inputs of the layers": layers * hidden}
        beside = {name: size for name, size in again.items() if name != "inputs of layers and norms"}
        beside["inputs of layers and norms"] = again["inputs of layers and norms"] - hidden
        told = {f"one layer again: {name}": size for name, size in beside.items()}
        yield Moment("gradient of the last layer", entry | inputs | told | ends)
    else:
        told = {name: sum(layer[name] for layer in kept) for name in kept[0]}
        yield Moment("gradient of the last layer", entry | told | ends)
    if config.block in ATTENTION_BLOCKS:
        inside = max(_working(shapes, context, gradients=True) for context in config.layer_contexts)
        yield Moment("gradient of attention", entry | told | {"work space of attention": inside})


def state_bytes(shapes: Shapes) -> int:
    """The most that the streams of a batch keep between two pushes, however long they are.

    Raises:
        ValueError: a side is unlimited, so that it grows, or nothing would ever come out.
    """
    config = shapes.config
    if config.block not in ("transformer", "conformer", "cnn") or any(not c.limited for c in config.contexts):
        raise ValueError(f'a stream of block="{config.block}" in ({config.contexts[-1]}) has no bounded state.')
    frame = shapes.batch_size * config.d_model * shapes.item
    total = 0
    for context in config.layer_contexts if config.block in ATTENTION_BLOCKS else ():
        assert context.right is not None and context.kept_frames is not None
        waiting = context.right + context.chunk - 1
        # Keys and values; queries, and frames to which attention is to be added.
        total += (2 * context.kept_frames + 2 * waiting) * frame
    if config.block in ("conformer", "cnn"):
        window = config.convolution
        assert window.kept_frames is not None and window.right is not None
        total += config.num_layers * (window.kept_frames + window.right) * frame
    splice = config.splice.kept_frames
    assert splice is not None
    entry = splice * config.input_dim + (config.stack - 1) * config.entry_dim // config.stack
    return total + shapes.batch_size * entry * shapes.item


def streaming(shapes: Shapes, push: int) -> Iterator[Moment]:
    """The moments of `Encoder.step` with `push` frames: the old state and the new one, and one layer at work."""
    config = shapes.config
    kept = state_bytes(shapes)
    window = max((c.kept_frames or 0 for c in config.layer_contexts), default=0)
    frame = shapes.batch_size * config.d_model * shapes.item
    new = push // config.stack + 1
    states = {"state": kept, "next state": kept}
    if config.block in ATTENTION_BLOCKS:
        yield Moment(
            "attention", states | {"queries, keys and values": (3 * new + 2 * (window + new) + 3 * new) * frame}
        )
    inside = (4 * new * config.d_model + 2 * new * config.feed_forward_dim) * shapes.batch_size * shapes.item
    yield Moment("feed-forward", states | {"inside of a feed-forward layer": inside})


def _entering(shapes: Shapes) -> Moment:
    """Frames without padding's rubbish, the same with their edges, and beside their neighbours; see
    encoder/input.py.
    """
    config = shapes.config
    input = shapes.batch_size * shapes.num_frames * config.input_dim * shapes.item
    alive = {"padding set to zero": input if shapes.ragged else 0}
    if config.splice != NO_SPLICE:
        beside = input * len(config.splice.offsets())
        alive |= {"with their edges": input, "frames beside their neighbours": beside}
    return Moment("entry", alive)


def _placing(shapes: Shapes) -> Moment:
    """Positions that are added at the input; sines are computed in float64, once for all rows."""
    config, row = shapes.config, shapes.hidden // max(shapes.batch_size, 1)
    alive = {"frames inside the encoder": shapes.hidden, "frames as they entered": shapes.entered}
    if config.block in ATTENTION_BLOCKS and config.position_encoding == "sinusoidal":
        alive["sines and cosines"] = round(5 * row * WIDE / shapes.item)
    elif config.block in ATTENTION_BLOCKS and config.position_encoding == "learned":
        alive["positions added"] = shapes.hidden
    return Moment("positions", alive)


def _attending(shapes: Shapes, context: Context) -> dict[str, int]:
    """Everything that is alive inside `SelfAttention.forward` when there is most of it."""
    hidden, half = shapes.hidden, shapes.item < WIDE
    alive = {"input of attention": hidden * (2 if shapes.ragged else 1), "queries, keys and values": 3 * hidden}
    if shapes.config.position_encoding == "rotary":
        cosines = shapes.stacked * (shapes.config.d_model // shapes.config.num_heads // 2) * 2 * (4 + shapes.item)
        alive["turned queries and keys"] = 3 * hidden + cosines
    else:
        alive["heads"] = hidden
    if half and shapes.backend(context) not in ("sdpa", "windows"):
        alive["the same in float32"] = round(4 * hidden * WIDE / shapes.item)
    alive["work space of attention"] = _working(shapes, context, gradients=False)
    return alive


def _working(shapes: Shapes, context: Context, gradients: bool) -> int:
    """What a backend needs beside what goes in and comes out."""
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
        return _windowing(shapes, context.within(frames), gradients)
    keys = frames if context.window is None else min(frames, context.window + BLOCK)
    tables = 1 if config.position_encoding in PLAIN_POSITION_ENCODINGS else heads
    # Masks, with the bias of each head in them, and the index that cuts them from its table; while they are used, a
    # slab's and an edge's once more without blind queries.
    masks = BLOCK * keys * (2 * tables * width + (20 if tables > 1 else 12))
    if shapes.biased:
        masks = BLOCK * keys * max(2 * heads * width + 20, (3 * width + 1) * heads + 10)
    if config.activation == "softmax" and not gradients:
        return masks  # torch's kernel keeps its scores in the cache
    block = block_size(context)
    window = frames if context.window is None else min(frames, context.window - context.chunk + block)
    one = block * window * width
    together = min(batch * heads * -(-frames // block), TILE_BATCH_BYTES // max(one, 1))
    scores = max(BLOCK * keys * heads * width, one * together)
    products = scores * (config.d_model // heads) // max(window, 1)  # queries, heads and their like beside the scores
    return masks + (3 * scores + 4 * products if gradients else scores + products)


def _windowing(shapes: Shapes, context: Context, gradients: bool) -> int:
    """Return what attention over windows needs: see attention/cuda/sdpa_windows.py, whose pieces are whole windows or
    gathered ones.
    """
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


def _kept_scores(shapes: Shapes) -> int:
    """Return what autograd keeps of dense attention: weights twice, what masks them, and the columns of the table."""
    pairs, rows, heads = shapes.stacked**2, shapes.batch_size, shapes.config.num_heads
    weights = 2 * rows * heads * pairs * max(WIDE, shapes.item)
    if not shapes.biased:
        return weights + 3 * rows * pairs
    return weights + (2 * rows + 1) * heads * pairs + 8 * pairs


def _feeding(shapes: Shapes) -> dict[str, int]:
    """Inside a feed-forward layer, of as many frames as are done at a time."""
    share = frames_at_once(shapes.batch_size, shapes.stacked) / max(shapes.stacked, 1)
    alive = {"sum with attention, and inside of the layer": round(share * (shapes.hidden + 2 * shapes.inside))}
    if share < 1:
        alive["output"] = shapes.hidden
    return alive


def _kept_blocks(shapes: Shapes) -> dict[str, int]:
    """Blocks below INFERENCE_BLOCK that glibc keeps in its heap, and MKL's, where whole tensors are larger.

    The heap grows to twice what is in use: an aligned block does not fit into the hole that one of its size has left.
    """
    config = shapes.config
    if shapes.hidden < INFERENCE_BLOCK:
        return {}
    # Frames that were copied at the entry; min, so that a plan never shrinks as rows grow.
    alive = {"frames as they entered": min(2 * shapes.entered, INFERENCE_BLOCK)}
    at_once = frames_at_once(shapes.batch_size, shapes.stacked)
    if config.block in ATTENTION_BLOCKS and at_once < shapes.stacked:
        width = shapes.batch_size * at_once * shapes.item
        # The frames of a part, their sum with attention and their norm; in a conformer both halves of a gate.
        frames = (4 if config.block == "conformer" else 3) * width * config.d_model
        inside = width * config.feed_forward_dim
        # Larger ones are given back, except those of the last part of a row, which is shorter.
        alive["parts of a feed-forward layer"] = 2 * frames + (
            4 * inside if inside < INFERENCE_BLOCK else INFERENCE_BLOCK
        )
    if config.block in ATTENTION_BLOCKS and config.position_encoding == "rotary":
        angles = BYTES["float64"] * shapes.stacked * (config.d_model // config.num_heads // 2)
        alive["angles"] = min(angles, INFERENCE_BLOCK)
        if shapes.hidden < 2 * INFERENCE_BLOCK:  # the halves of queries and keys that are turned
            alive["turned halves"] = 2 * shapes.hidden
    if shapes.dtype == "float64":
        alive["packed products"] = _packed_products(shapes)
    return alive


def _packed_products(shapes: Shapes) -> int:
    """Bytes that MKL keeps of what it copies for products in float64; in float32 they are a few MB."""
    config, rows = shapes.config, min(shapes.batch_size * shapes.stacked, PACKED_ROWS)
    # In powers of two.
    entry, inner = (min(1 << (n - 1).bit_length(), PACKED_FEATURES) for n in (config.entry_dim, config.d_model))
    # The first product is that of the entry; a later one that needs more takes memory of its own.
    return rows * (entry + (inner if config.d_model > config.entry_dim else 0)) * shapes.item


def _convolving(shapes: Shapes) -> dict[str, int]:
    """Inside a convolution: the frames, their gated copy, the same with its edges, and what comes out."""
    kernel = shapes.config.conv_kernel - 1
    edges = shapes.batch_size * kernel * shapes.config.d_model * shapes.item
    alive = {"input of the convolution": 2 * shapes.hidden, "with its edges": shapes.hidden + edges}
    if shapes.ragged:
        alive["padding set to zero"] = shapes.hidden
    if shapes.config.block == "cnn":
        return alive | {"weights in another order": 2 * shapes.kernel}
    return alive | {"output": shapes.hidden}


def _kept(shapes: Shapes, context: Context) -> dict[str, int]:
    """What autograd keeps of one layer, in groups; every group is there, if only with 0 bytes."""
    config, hidden, inside = shapes.config, shapes.hidden, shapes.inside
    noise = hidden if config.dropout else 0
    if config.block == "cnn":
        return {
            "inputs of layers and norms": hidden,
            "convolutions": 2 * hidden,
            "dropout": noise,
        }
    turned = 2 * hidden + shapes.stacked * config.d_model // config.num_heads * 2 * shapes.item
    packed = 3 * hidden + (turned if config.position_encoding == "rotary" else 0)
    if shapes.item < WIDE:
        packed = round(packed * WIDE / shapes.item)
    sums = 0
    if shapes.backend(context, training=True) == "dense":
        sums = _kept_scores(shapes)
    kept = {
        "inputs of layers and norms": 4 * hidden,
        "queries, keys and values": packed,
        "heads": hidden + sums,
        "inside of the feed-forward layers": 2 * inside,
        "dropout": 2 * noise,
    }
    if config.block == "conformer":
        kept["inputs of layers and norms"] = 8 * hidden
        kept["inside of the feed-forward layers"] = 4 * inside
        kept["convolutions"] = 7 * hidden
        kept["dropout"] = 4 * noise
    return kept

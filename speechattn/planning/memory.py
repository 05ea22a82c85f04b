"""Memory of an encoder at the moments that can be its peak, in bytes, from shapes alone.

A pass has few such moments: attention with its queries, keys and values, the inside of a feed-forward layer, the first
gradient. Each `Moment` lists all tensors that are alive then, and the largest one is the peak. The lists follow
encoder/encoder.py, encoder/blocks.py, encoder/self_attention.py and encoder/chunked_apply.py line by line, and what
autograd saves; scripts/check_planner.py compares them with measured processes. Weights and the caller's input are not
counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from speechattn.config import ATTENTION_BLOCKS, NO_SPLICE
from speechattn.context import Context
from speechattn.heuristics import frames_at_once
from speechattn.planning.attention_memory import attention_workspace, saved_scores
from speechattn.planning.library_memory import kept_blocks, packed_products
from speechattn.planning.shapes import WIDE, Shapes

MAX_TAPS = 13
"""Taps up to which oneDNN differentiates a full convolution; of a longer one torch copies every window."""
MIN_PACKED = 4_000_000
"""Bytes of a hidden tensor in training below which an estimate counts tensors only, without MKL's memory."""


@dataclass(frozen=True)
class Moment:
    """One moment of a pass: its name, and the bytes of all tensors alive then, by name."""

    where: str
    alive: Mapping[str, int]

    @property
    def num_bytes(self) -> int:
        """Sum over all tensors."""
        return sum(self.alive.values())


def inference(shapes: Shapes) -> Iterator[Moment]:
    """Yield the moments of `Encoder.forward` without gradients."""
    config, hidden = shapes.config, shapes.hidden
    kept = kept_blocks(shapes)
    frame = {"frames inside the encoder": hidden} | {f"kept by libraries: {name}": size for name, size in kept.items()}
    yield _input_layer(shapes)
    yield _position_encoding(shapes)
    if config.block in ATTENTION_BLOCKS:
        begun = {"first half of the conformer block": hidden} if config.block == "conformer" else {}
        for context in dict.fromkeys(config.layer_contexts):
            yield Moment("attention", frame | begun | _attention(shapes, context))
        yield Moment("feed-forward", frame | begun | {"output of attention": hidden} | _feed_forward(shapes))
    if config.block in ("conformer", "cnn"):
        yield Moment("convolution", frame | _convolution(shapes))
    finished = {"padding set to zero": hidden} if shapes.ragged else {}
    yield Moment("last norm", frame | {"output": hidden} | finished)


def training(shapes: Shapes) -> Iterator[Moment]:
    """Yield the moments of a forward and a backward pass."""
    config, hidden, layers = shapes.config, shapes.hidden, shapes.config.num_layers
    ends = {"output and its gradient": 2 * hidden, "gradient on its way": 2 * hidden + shapes.inside}
    if shapes.item < WIDE:
        ends["copies for products in half precision"] = shapes.inside + 3 * hidden
    if config.block == "cnn":
        columns = config.conv_kernel * hidden if config.conv_kernel > MAX_TAPS else 2 * shapes.kernel
        ends["gradient on its way"] = 2 * hidden + columns + 2 * shapes.kernel
    entry = {"frames as they entered": shapes.entered + hidden * bool(config.dropout)}
    if shapes.dtype == "float64" and hidden >= MIN_PACKED:
        entry["kept by libraries: packed products"] = packed_products(shapes)
    kept = [_saved(shapes, context) for context in config.layer_contexts]
    if config.gradient_checkpointing:
        again = max(kept, key=lambda layer: sum(layer.values()))
        inputs = {"inputs of the layers": layers * hidden}
        beside = {name: size for name, size in again.items() if name != "inputs of layers and norms"}
        beside["inputs of layers and norms"] = again["inputs of layers and norms"] - hidden
        saved = {f"one layer again: {name}": size for name, size in beside.items()}
        yield Moment("gradient of the last layer", entry | inputs | saved | ends)
    else:
        saved = {name: sum(layer[name] for layer in kept) for name in kept[0]}
        yield Moment("gradient of the last layer", entry | saved | ends)
    if config.block in ATTENTION_BLOCKS:
        inside = max(attention_workspace(shapes, context, gradients=True) for context in config.layer_contexts)
        yield Moment("gradient of attention", entry | saved | {"work space of attention": inside})


def state_bytes(shapes: Shapes) -> int:
    """Return the largest state of the streams of a batch between two pushes.

    Raises:
        ValueError: a side is unlimited: the state grows, or no frame ever comes out.
    """
    config = shapes.config
    if config.block not in ("transformer", "conformer", "cnn") or any(not c.limited for c in config.contexts):
        raise ValueError(f'a stream of block="{config.block}" in ({config.contexts[-1]}) has no bounded state.')
    frame = shapes.batch_size * config.d_model * shapes.item
    total = 0
    for context in config.layer_contexts if config.block in ATTENTION_BLOCKS else ():
        waiting = context.lookahead()
        assert waiting is not None and context.kept_frames is not None
        # Keys and values; queries, and frames to which attention is to be added.
        total += (2 * context.kept_frames + 2 * waiting) * frame
    if config.block in ("conformer", "cnn"):
        window = config.convolution
        waiting = window.lookahead()
        assert waiting is not None and window.kept_frames is not None
        total += config.num_layers * (window.kept_frames + waiting) * frame
    splice = config.splice.kept_frames
    assert splice is not None
    entry = splice * config.input_dim + (config.stack - 1) * config.entry_dim // config.stack
    return total + shapes.batch_size * entry * shapes.item


def streaming(shapes: Shapes, push: int) -> Iterator[Moment]:
    """Yield the moments of `Encoder.step` with `push` frames: old and new state, and the tensors of one layer."""
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


def _input_layer(shapes: Shapes) -> Moment:
    """Return the moment of the input layer: frames with zeroed padding, extended at both ends, and spliced."""
    config = shapes.config
    input = shapes.batch_size * shapes.num_frames * config.input_dim * shapes.item
    alive = {"padding set to zero": input if shapes.ragged else 0}
    if config.splice != NO_SPLICE:
        beside = input * len(config.splice.offsets())
        alive |= {"with their edges": input, "frames beside their neighbours": beside}
    return Moment("entry", alive)


def _position_encoding(shapes: Shapes) -> Moment:
    """Return the moment of position encodings that are added at the input; sines are computed in float64."""
    config, row = shapes.config, shapes.hidden // max(shapes.batch_size, 1)
    alive = {"frames inside the encoder": shapes.hidden, "frames as they entered": shapes.entered}
    if config.block in ATTENTION_BLOCKS and config.position_encoding == "sinusoidal":
        alive["sines and cosines"] = round(5 * row * WIDE / shapes.item)
    elif config.block in ATTENTION_BLOCKS and config.position_encoding == "learned":
        alive["positions added"] = shapes.hidden
    return Moment("positions", alive)


def _attention(shapes: Shapes, context: Context) -> dict[str, int]:
    """Return the tensors alive at the peak of `SelfAttention.forward`."""
    hidden, half = shapes.hidden, shapes.item < WIDE
    alive = {"input of attention": hidden * (2 if shapes.ragged else 1), "queries, keys and values": 3 * hidden}
    if shapes.config.position_encoding == "rotary":
        cosines = shapes.stacked * (shapes.config.d_model // shapes.config.num_heads // 2) * 2 * (4 + shapes.item)
        alive["turned queries and keys"] = 3 * hidden + cosines
    else:
        alive["heads"] = hidden
    if half and shapes.backend(context) not in ("sdpa", "windows"):
        alive["the same in float32"] = round(4 * hidden * WIDE / shapes.item)
    alive["work space of attention"] = attention_workspace(shapes, context, gradients=False)
    return alive


def _feed_forward(shapes: Shapes) -> dict[str, int]:
    """Return the tensors inside a feed-forward layer, of one chunk of frames."""
    share = frames_at_once(shapes.batch_size, shapes.stacked) / max(shapes.stacked, 1)
    alive = {"sum with attention, and inside of the layer": round(share * (shapes.hidden + 2 * shapes.inside))}
    if share < 1:
        alive["output"] = shapes.hidden
    return alive


def _convolution(shapes: Shapes) -> dict[str, int]:
    """Return the tensors inside a convolution: input, gated copy, the same with its edges, and output."""
    kernel = shapes.config.conv_kernel - 1
    edges = shapes.batch_size * kernel * shapes.config.d_model * shapes.item
    alive = {"input of the convolution": 2 * shapes.hidden, "with its edges": shapes.hidden + edges}
    if shapes.ragged:
        alive["padding set to zero"] = shapes.hidden
    if shapes.config.block == "cnn":
        return alive | {"weights in another order": 2 * shapes.kernel}
    return alive | {"output": shapes.hidden}


def _saved(shapes: Shapes, context: Context) -> dict[str, int]:
    """Return what autograd saves of one layer, in groups, some of 0 bytes."""
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
        sums = saved_scores(shapes)
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

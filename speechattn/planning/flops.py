"""Operations of an encoder: matrix products, attended pairs, elementwise work.

All from shapes and `Context` alone, in exact integers; a multiplication and its addition are two operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from speechattn.config import ATTENTION_BLOCKS, CONVOLUTION_BLOCKS, EncoderConfig
from speechattn.context import Context


@dataclass(frozen=True)
class Work:
    """Work of the forward pass of a batch, in the units of a machine's rates."""

    products: dict[str, int]
    """Operations of matrix products, by part."""
    attended: int
    """Operations of queries with keys and of weights with values: 4 * d_model for every visible pair."""
    queries: int
    """Features of all queries: the cost of attention beside its pairs."""
    numbers: int
    """Elements of elementwise operations: norms, sums, activations."""
    taps: int
    """Operations of depthwise convolutions."""

    @property
    def flops(self) -> int:
        """Operations of the forward pass."""
        return sum(self.products.values()) + self.attended + self.taps

    @property
    def by_part(self) -> dict[str, int]:
        """The same, by part."""
        parts = self.products | {"attention": self.attended, "depthwise convolutions": self.taps}
        return {name: flops for name, flops in parts.items() if flops}


ROTARY_NUMBERS, DROPOUT_NUMBERS = 12, 4
"""Elementwise work of rotary positions per feature of a query and its key, and of dropout per element: fitted to
measured times, as cosines and random numbers cost more than sums."""


def work(config: EncoderConfig, num_frames: int, batch_size: int = 1, training: bool = False) -> Work:
    """Return the work of `num_frames` frames per row, before stacking; `training` adds dropout."""
    frames, width, inside = num_frames // config.stack, config.d_model, config.feed_forward_dim
    rows, layers = batch_size * frames, config.num_layers
    products = {"input projection": 2 * rows * config.entry_dim * width}
    attended = queries = taps = 0
    numbers = 2 * rows * width
    if config.block in ATTENTION_BLOCKS:
        doubled = 2 if config.block == "conformer" else 1
        products["attention projections"] = 2 * rows * layers * 4 * width * width
        products["feed-forward layers"] = 2 * rows * layers * 2 * doubled * width * inside
        attended = 4 * width * batch_size * sum(context.num_pairs(frames) for context in config.layer_contexts)
        queries = rows * layers * width
        numbers += rows * layers * doubled * (4 * width + inside)
        if config.position_encoding == "rotary":
            numbers += rows * layers * ROTARY_NUMBERS * width
    if config.block == "conformer":
        products["convolution module"] = 2 * rows * layers * 3 * width * width
        numbers += rows * layers * 8 * width
        taps = 2 * rows * layers * config.conv_kernel * width
    elif config.block in CONVOLUTION_BLOCKS:
        products["convolutions"] = 2 * rows * layers * config.conv_kernel * width * width
        numbers += rows * layers * 4 * width
    if training and config.dropout:
        numbers += DROPOUT_NUMBERS * rows * width * (1 + layers * RESIDUAL_BRANCHES[config.block])
    return Work(products, attended, queries, numbers, taps)


def num_parameters(config: EncoderConfig) -> int:
    """Return the number of trainable parameters."""
    return BLOCK_PARAMETERS[config.block](config)


def _linear(before: int, after: int) -> int:
    return before * after + after


def _deep(config: EncoderConfig) -> int:
    """Return the parameters of a transformer, conformer or CNN: input layer, blocks and final norm."""
    width, inside = config.d_model, config.feed_forward_dim
    norm, layers = 2 * width, config.num_layers
    total = _linear(config.entry_dim, width) + norm
    if config.block in ATTENTION_BLOCKS and config.position_encoding == "learned":
        total += config.max_frames * width
    if config.block == "cnn":
        return total + layers * (norm + config.conv_kernel * width * width + width)
    feed_forward = norm + _linear(width, inside) + _linear(inside, width)
    layer = norm + _linear(width, 3 * width) + _linear(width, width) + feed_forward
    if config.block == "conformer":
        layer += feed_forward + 3 * norm + _linear(width, 2 * width) + _linear(width, width)
        layer += config.conv_kernel * width + width
    if config.position_encoding == "relative":
        total += config.num_heads * sum(_distances(context) for context in config.layer_contexts)
    return total + layers * layer


def _distances(context: Context) -> int:
    offsets = context.offsets()
    return offsets.stop - offsets.start  # len of a range ends at 2**63


def _mlp(config: EncoderConfig) -> int:
    return _linear(config.entry_dim, config.d_model) + (config.num_layers - 1) * _linear(config.d_model, config.d_model)


def _bigru(config: EncoderConfig) -> int:
    half = config.d_model // 2
    widths = [config.entry_dim] + [config.d_model] * (config.num_layers - 1)
    return sum(2 * 3 * (width * half + half * half + 2 * half) for width in widths)


RESIDUAL_BRANCHES = {"transformer": 2, "conformer": 4, "cnn": 1}
BLOCK_PARAMETERS: dict[str, Callable[[EncoderConfig], int]] = {
    "transformer": _deep,
    "conformer": _deep,
    "cnn": _deep,
    "mlp": _mlp,
    "bigru": _bigru,
    "linear": lambda config: _linear(config.entry_dim, config.d_model),
}

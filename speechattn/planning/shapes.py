"""The sizes of an encoder's tensors in bytes, from its config, the frames and the dtype."""

from __future__ import annotations

from dataclasses import dataclass

from speechattn.config import NO_SPLICE, EncoderConfig
from speechattn.context import Context
from speechattn.heuristics import NATIVE_FEATURES, automatic

BYTES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
"""Bytes of an element by dtype."""
WIDE = 4
"""Bytes of float32, in which attention computes half precision."""
PLAIN_POSITION_ENCODINGS = ("none", "sinusoidal", "learned")
"""Position encodings without a bias on the scores and without a rotation."""


@dataclass(frozen=True)
class Shapes:
    """An encoder, rows of frames (before stacking) and a dtype, from which the size of every tensor follows."""

    config: EncoderConfig
    num_frames: int
    batch_size: int = 1
    dtype: str = "float32"
    native: bool = True
    ragged: bool = False
    """Whether rows have lengths, so that padding is set to zero."""

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return BYTES[self.dtype]

    @property
    def stacked(self) -> int:
        """Frames of a row after stacking."""
        return self.num_frames // self.config.stack

    @property
    def hidden(self) -> int:
        """Bytes of one hidden tensor [B, T, D]."""
        return self.batch_size * self.stacked * self.config.d_model * self.item

    @property
    def inside(self) -> int:
        """Bytes of one tensor inside a feed-forward layer, [B, T, d_ff]."""
        return self.batch_size * self.stacked * self.config.feed_forward_dim * self.item

    @property
    def entered(self) -> int:
        """Bytes of spliced and stacked frames, 0 where they are a view of the caller's tensor."""
        config = self.config
        size = self.batch_size * self.stacked * config.entry_dim * self.item
        # Rows without their remainder are not contiguous: stacking copies them.
        apart = self.batch_size > 1 and self.num_frames % config.stack > 0
        return size if self.ragged or apart or config.splice != NO_SPLICE else 0

    @property
    def kernel(self) -> int:
        """Bytes of the weights of one full convolution."""
        return self.config.conv_kernel * self.config.d_model**2 * self.item

    @property
    def biased(self) -> bool:
        """Whether a bias is added to scores."""
        return self.config.position_encoding not in (*PLAIN_POSITION_ENCODINGS, "rotary")

    def backend(self, context: Context, training: bool = False) -> str:
        """Return the backend of a layer."""
        if self.config.backend != "auto":
            return self.config.backend
        plain = self.config.activation == "softmax" and self.config.position_encoding in PLAIN_POSITION_ENCODINGS
        whole = self.config.d_model // self.config.num_heads % NATIVE_FEATURES == 0
        return automatic(context, self.stacked, plain, self.native and self.dtype == "float32" and whole, training)

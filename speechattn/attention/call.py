"""One attention call, described once: what every backend takes besides queries, keys and values."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from speechattn.attention.qkv import QKV
from speechattn.attention.relative_bias import table_offsets
from speechattn.config import ACTIVATIONS
from speechattn.context import Context
from speechattn.dtypes import widened
from speechattn.lengths import check_lengths, full_lengths, valid_mask
from speechattn.system.serialization import plain_number

OPERATOR_ARGUMENTS = "Tensor? lengths, Tensor? bias, int? left, int? right, int chunk, str activation, float scale"
"""What an operator of torch takes instead of an `AttentionCall`: see `AttentionCall.operator_arguments`."""


class AttentionCall(NamedTuple):
    """The settings of one call, checked: a backend relies on them.

    A tuple, which is made in a third of the time of a frozen dataclass: short calls take 15 microseconds in all.
    """

    context: Context
    lengths: Tensor | None = None
    """Valid frames [B], int64; None means all."""
    activation: str = "softmax"
    bias: Tensor | None = None
    """Table [H, offsets] added to the scores by key minus query, in the dtype `widened` of the queries'."""
    scale: float = 1.0
    query_start: int = 0
    """Index of the first query's frame. Of a stream it is the first of a chunk, and there are no lengths."""
    key_start: int = 0

    def row_lengths(self, k: Tensor) -> list[int]:
        """Return the valid frames of each row, counted from frame 0; `k` are the keys [B, H, T, D]."""
        return [self.key_start + k.shape[2]] * k.shape[0] if self.lengths is None else self.lengths.tolist()

    def valid_frames(self, q: Tensor) -> Tensor:
        """Return the mask [B, 1, T, 1] of frames that are no padding, for queries [B, H, T, D]."""
        lengths = full_lengths(q[:, 0]) if self.lengths is None else self.lengths.to(q.device)
        return valid_mask(lengths, q.shape[2])[:, None, :, None]

    def offsets(self, num_frames: int) -> range:
        """Return the distances, key minus query, that the columns of the bias stand for among `num_frames` frames."""
        return self.context.offsets() if self.bias is None else table_offsets(self.bias, self.context, num_frames)

    def operator_arguments(
        self,
    ) -> tuple[Tensor | None, Tensor | None, int | None, int | None, int, str, float]:
        """Return OPERATOR_ARGUMENTS, which leave out where a stream stands."""
        context = self.context
        return self.lengths, self.bias, context.left, context.right, context.chunk, self.activation, self.scale


def call_of_operator(
    lengths: Tensor | None,
    bias: Tensor | None,
    left: int | None,
    right: int | None,
    chunk: int,
    activation: str,
    scale: float,
) -> AttentionCall:
    """Return the call that `AttentionCall.operator_arguments` took apart."""
    return AttentionCall(Context(left, right, chunk), lengths, activation, bias, scale)


def check_call(
    qkv: QKV,
    context: Context,
    lengths: Tensor | None,
    activation: str,
    relative_bias: Tensor | None,
    scale: float | None,
) -> AttentionCall:
    """Return the call that arguments of `attention` describe.

    Raises:
        TypeError, ValueError: shapes, dtypes or lengths that do not fit, or an unknown activation.
    """
    q, k, v, _ = qkv
    shape = q.shape
    if not isinstance(context, Context):
        raise TypeError(f"context must be a speechattn.Context, got {type(context).__name__}.")
    if len(shape) != 4 or k.shape != shape or v.shape[:-1] != shape[:-1]:
        shapes = ", ".join(str(list(x.shape)) for x in (q, k, v))
        raise ValueError(f"q, k and v must be [B, H, T, D] with equal B, H and T, got {shapes}.")
    if not q.is_floating_point() or k.dtype != q.dtype or v.dtype != q.dtype:
        raise TypeError(f"q, k and v must share one floating dtype, got {q.dtype}, {k.dtype}, {v.dtype}.")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}.")
    if relative_bias is not None:
        if relative_bias.ndim != 2 or relative_bias.shape[0] != shape[1]:
            raise ValueError(
                f"relative_bias must be [H, len(context.offsets())] = [{shape[1]}, {len(context.offsets())}], "
                f"got {list(relative_bias.shape)}."
            )
        table_offsets(relative_bias, context, shape[2])
        relative_bias = relative_bias.to(widened(q.dtype))
    lengths = check_lengths(lengths, shape[0], shape[2])
    return AttentionCall(context, lengths, activation, relative_bias, _checked_scale(scale, shape[3]))


def _checked_scale(scale: float | None, features: int) -> float:
    """Return the factor on the scores as a Python number: compiled kernels take no other."""
    if scale is None:
        return features**-0.5  # type: ignore[no-any-return]
    number = None if isinstance(scale, Tensor | bool) else plain_number(scale)
    if not isinstance(number, int | float):
        hint = " Multiply q by a scale that is learned." if isinstance(scale, Tensor) else ""
        raise TypeError(f"scale must be a number, got {scale!r}.{hint}")
    return number

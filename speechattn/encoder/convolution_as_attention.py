"""A convolution is local attention: the weights of a SelfAttention that equals a given 1-D convolution, and back.

One head per tap. The bias by distance of head h peaks so sharply at tap h that its softmax is a one there and
exactly 0 elsewhere, so each head *shifts* its input; the output projection is the kernel laid flat::

    frame t sees        t-1  t  t+1            output[t] = W0 x[t-1] + W1 x[t] + W2 x[t+1] + b
    head 0 looks at      #   .   .   x[t-1]
    head 1               .   #   .   x[t]      = [W0 W1 W2] [x[t-1]; x[t]; x[t+1]] + b
    head 2               .   .   #   x[t+1]

This is theorem 1 of Cordonnier et al. 2020 (arXiv 1911.03584), in one dimension and with a table of biases where the
paper has a quadratic encoding; the paper lets the sharpness go to infinity, floating point is there long before.
It is for understanding, tests and initialisation, not for speed: a convolution is faster.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from speechattn.attention.functional import attention_weights
from speechattn.context import Context
from speechattn.dtypes import like, widened
from speechattn.encoder.self_attention import SelfAttention
from speechattn.lengths import check_lengths, zero_padding

SHARPNESS = 1000.0
"""Nats that a score falls per frame from its tap: exp(-1000) is 0, in float64 too, which ends at exp(-745)."""


class AttentionConvolution(nn.Module):
    """Frames [B, T, in_channels] -> [B, T, out_channels]: a convolution, computed by one `attention` layer.

    Softmax weights add up to one for every frame, so attention cannot detect where the audio ends: from a constant
    input it computes a constant. A convolution with zeros past the ends does not. The zeros are therefore frames of
    the layer's input, `edges` of them before and after each row.
    """

    def __init__(self, attention: SelfAttention, in_channels: int, out_channels: int, edges: tuple[int, int]) -> None:
        super().__init__()
        self.attention, self.in_channels, self.out_channels, self.edges = attention, in_channels, out_channels, edges

    def forward(self, input: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return frames [B, T, out_channels], exactly 0 at and past `lengths` [B]; each row as if it were alone."""
        lengths = check_lengths(lengths, *input.shape[:2])
        output = self.attention(self.widen(input, lengths), None if lengths is None else lengths + sum(self.edges))
        return zero_padding(output[:, self.edges[0] :][:, : input.shape[1], : self.out_channels], lengths)

    def widen(self, input: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the layer's input, [B, before + T + after, d_model]: zeros after the features and past the ends."""
        unused = self.attention.d_model - self.in_channels
        # Before 2.7 torch refused to pad no frames by none.
        sides = (0, unused, *self.edges) if any(self.edges) else (0, unused)
        return pad(zero_padding(input, lengths), sides)


@torch.no_grad()
def attention_from_convolution(
    conv: nn.Conv1d, left: int | None = None, activation: str = "softmax", sharpness: float = SHARPNESS
) -> AttentionConvolution:
    """Return an attention layer that equals `conv`: for every frame, at both ends, and for every row of a padded batch.

    Output frame t is frame t of ``conv(input.mT).mT``, and there are as many as input frames. The layer has a head
    for each of the K taps, and each copies a whole frame: it is K * in_channels wide (wider where out_channels need
    it). Less will not do for every kernel, since a layer of width D holds taps whose ranks add up to D at most.

    Args:
        conv: any kernel size, dilation, groups and channels; stride 1. Padding with "zeros" or "replicate", the
            second being what the layer does by itself: a head whose tap is past an end looks at the nearest frame.
        left: frames before frame t that its first tap looks back; None takes the convolution's own padding.
        activation: "softmax", or "relu": softmax is not required.
        sharpness: nats that a score falls per frame from its tap. Less than the default is no longer exact, and has
            gradients: a place to start training from.

    Raises:
        ValueError: a stride, padding or `left` that has no such layer.

    Examples:
        >>> conv = nn.Conv1d(3, 5, kernel_size=3, padding=1, dtype=torch.float64)
        >>> frames = torch.randn(2, 10, 3, dtype=torch.float64)
        >>> bool((attention_from_convolution(conv)(frames) - conv(frames.mT).mT).abs().max() < 1e-10)
        True
    """
    context, taps = _window(conv, left, activation)
    width = max(conv.in_channels, -(-conv.out_channels // len(taps)))
    d_model = len(taps) * width
    layer = SelfAttention(d_model, len(taps), context, position_encoding="relative", activation=activation).to(
        conv.weight
    )
    assert layer.relative_bias is not None
    for parameter in layer.parameters():
        parameter.zero_()

    # q = k = 0: the content of frames does not matter. Relu divides by the number of visible frames, so the peak is
    # that number; softmax is not changed by it.
    distances = torch.tensor(context.offsets()).to(conv.weight)
    table = len(distances) - sharpness * (distances - torch.tensor(taps).to(distances)[:, None]).abs()
    layer.relative_bias.table.copy_(table)
    values, copy = layer.query_key_value.weight[2 * d_model :], torch.eye(conv.in_channels).to(conv.weight)
    for tap, kernel in enumerate(conv.weight.unbind(2)):
        head = slice(tap * width, tap * width + conv.in_channels)
        values[head, : conv.in_channels] = copy
        layer.output.weight[: conv.out_channels, head] = torch.block_diag(*kernel.chunk(conv.groups))  # type: ignore[no-untyped-call]
    if conv.bias is not None:
        layer.output.bias[: conv.out_channels] = conv.bias
    edges = (-taps[0], taps[-1]) if conv.padding_mode == "zeros" else (0, 0)
    return AttentionConvolution(layer, conv.in_channels, conv.out_channels, edges)


@torch.no_grad()
def convolution_from_attention(layer: SelfAttention, input: Tensor, lengths: Tensor | None = None) -> nn.Conv1d:
    """Return the convolution that a layer is on average over `input` [B, T, d_model].

    Each head keeps its mean weights: the kernel at distance o is the sum over heads of the head's mean weight at o
    times its output times its value projection. It equals the layer where the weights do not depend on the content of
    frames; other layers can be compared with it. `lengths` are [B]; only frames that see their whole window count.

    Raises:
        ValueError: the context has no limit or has chunks, or no frame sees its whole window.

    Examples:
        >>> conv = nn.Conv1d(2, 2, kernel_size=3, padding=1)
        >>> same = attention_from_convolution(conv)
        >>> back = convolution_from_attention(same.attention, same.widen(torch.randn(1, 9, 2)))
        >>> torch.allclose(back.weight[:2, :2], conv.weight)
        True
    """
    context = layer.context
    if context.window is None or context.chunk != 1:
        raise ValueError(f"a convolution has a window with two limits and no chunks, got ({context}).")
    batch, num_frames, d_model = input.shape
    lengths = check_lengths(lengths, batch, num_frames)
    frames = torch.arange(num_frames, device=input.device)
    start, stop = context.span(frames)
    assert start is not None and stop is not None
    last = torch.full((batch,), num_frames) if lengths is None else lengths
    whole = (start >= 0) & (stop <= last.to(input.device)[:, None])
    if not whole.any():
        raise ValueError(f"no frame sees its whole window of {context.window} frames: give longer rows.")

    q, k, _ = layer.project(zero_padding(input, lengths))
    table = layer.bias(context, num_frames)
    weights = attention_weights(q, k, context, lengths=lengths, activation=layer.activation, relative_bias=table)
    mean = weights.transpose(1, 2)[whole].mean(0, dtype=widened(weights.dtype)).to(weights.dtype)  # [H, window]
    weight, bias = _affine(layer.query_key_value, d_model)
    value = weight[2 * d_model :].reshape(layer.num_heads, -1, d_model)
    value_bias = bias[2 * d_model :].reshape(layer.num_heads, -1)
    weight, bias = _affine(layer.output, d_model)
    output = weight.reshape(d_model, layer.num_heads, -1)
    conv = nn.Conv1d(d_model, d_model, context.window).to(input)
    assert conv.bias is not None
    conv.weight.copy_(torch.einsum("ohd,hdi,hk->oik", output, value, mean))
    conv.bias.copy_(bias + torch.einsum("ohd,hd,hk->o", output, value_bias, mean))
    return conv


def _affine(layer: nn.Module, width: int) -> tuple[Tensor, Tensor]:
    """Return weight [out, width] and bias [out] of a linear layer, wrapped and quantised ones included."""
    empty = like(layer)
    bias = layer(empty.new_zeros(1, width))
    return (layer(torch.eye(width).to(empty)) - bias).T, bias[0]


def _window(conv: nn.Conv1d, left: int | None, activation: str) -> tuple[Context, list[int]]:
    """Return the context of a convolution, and the distance of each tap from the frame."""
    if conv.stride != (1,):
        raise ValueError(f"attention gives a frame for every frame: stride must be 1, got {conv.stride[0]}.")
    if conv.padding_mode not in ("zeros", "replicate"):
        raise ValueError(f'padding_mode must be "zeros" or "replicate", got {conv.padding_mode!r}.')
    if conv.padding_mode == "replicate" and activation != "softmax":
        raise ValueError(f'padding_mode="replicate" needs activation="softmax", got {activation!r}.')
    step = conv.dilation[0]
    reach = step * (conv.kernel_size[0] - 1)
    if left is None:
        own = {"same": reach // 2, "valid": 0}
        left = own[conv.padding] if isinstance(conv.padding, str) else conv.padding[0]
    if not 0 <= left <= reach:
        raise ValueError(
            f"the first tap must look 0 to {reach} frames back, so that frame t is among the {reach + 1} it spans; "
            f"got {left}. Give left=, or a padding of at most {reach}."
        )
    return Context.truncated(left, reach - left), list(range(-left, reach - left + 1, step))

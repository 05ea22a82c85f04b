"""The public door to attention: checks what comes in, picks the backend, never loses a window."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from speechattn.attention.banded.attention import banded_attention, banded_step
from speechattn.attention.dense import dense_attention, dense_step, relative_index, table_offsets, weights_of
from speechattn.attention.masks import band_mask
from speechattn.attention.native.attention import native_attention, native_refusal, native_step
from speechattn.attention.qkv import unpacked
from speechattn.config import ACTIVATIONS, BACKENDS
from speechattn.context import Context
from speechattn.heuristics import NATIVE_KEYS, automatic
from speechattn.lengths import check_lengths, valid_mask
from speechattn.planning import memory_limit as guard
from speechattn.system.serialization import plain_number
from speechattn.transforms import is_learning, is_transformed


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    context: Context,
    *,
    lengths: Tensor | None = None,
    activation: str = "softmax",
    relative_bias: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Output [B, H, T, Dv]: for every frame, the values its context lets it see, weighted by query and key.

    The output has q's dtype and is exactly 0 at and past `lengths`, whatever the padding holds.

    Args:
        q, k: queries and keys [B, H, T, D]; any strides.
        v: values [B, H, T, Dv].
        context: what each frame may see; each row's window is clipped to that row's length.
        lengths: valid frames [B], integer; None means all T.
        activation: "softmax" (Vaswani et al. 2017, eq. 1), or "relu": max(score, 0) divided by the number of
            visible keys, for those who hold that softmax is not required.
        relative_bias: [H, len(context.offsets())], added to the scores by key minus query. A side without
            limit shares its last entry, unless the table is [H, len(context.offsets(T))], with every distance. -inf
            hides a key: a frame from which all are hidden gets 0, and gradients of 0. +inf and NaN give NaN.
        scale: factor on the scores; None is D ** -0.5.
        backend: "dense" is the plain reference with T x T scores; "banded" takes time and memory linear in
            T (one unlimited side: linear memory, quadratic time); "native" does so near the speed of the processor,
            for float32 on a CPU; "sdpa" is torch's scaled_dot_product_attention, for softmax without a bias over
            everything, whose gradients lose 1e-7 of the largest score; "windows" is the same function over overlapping
            windows, "flex" torch's flex_attention and "triton" kernels of our own, the last two for CUDA. `why_not`
            says what each cannot take, `choose` what "auto" is. Only "dense" can be differentiated twice: ask for it.
            Inside torch.func and forward-mode derivatives "auto" takes it by itself.

    Raises:
        TypeError, ValueError: shapes, dtypes or lengths that do not fit, or an unknown activation or backend.

    Example:
        >>> q = k = v = torch.eye(3)[None, None]
        >>> attention(q, k, v, Context.truncated(0, 0))[0, 0].tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return _attention((q, k, v), context, lengths, activation, relative_bias, scale, backend)


def packed_attention(
    qkv: Tensor,
    context: Context,
    *,
    lengths: Tensor | None = None,
    activation: str = "softmax",
    relative_bias: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """`attention` of the one tensor [B, T, 3, H, D] that a projection leaves: output [B, H, T, D].

    The same output as of its views q, k and v; its gradient is written where it belongs, and not stacked from theirs.

    Example:
        >>> packed_attention(torch.ones(2, 7, 3, 4, 8), Context.truncated(1, 1)).shape
        torch.Size([2, 4, 7, 8])
    """
    if qkv.ndim != 5 or qkv.shape[2] != 3:
        raise ValueError(f"qkv must be [B, T, 3, H, D], got {list(qkv.shape)}.")
    return _attention((qkv,), context, lengths, activation, relative_bias, scale, backend)


def _attention(
    parts: tuple[Tensor, ...],
    context: Context,
    lengths: Tensor | None,
    activation: str,
    relative_bias: Tensor | None,
    scale: float | None,
    backend: str,
) -> Tensor:
    """The output [B, H, T, Dv] of three tensors or of a packed one, see qkv.py."""
    q, k, v = unpacked(parts)
    _check(q, k, v, context, activation, relative_bias)
    lengths = check_lengths(lengths, q.shape[0], q.shape[2])
    scale = _checked_scale(scale, q.shape[3])
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}.")
    if backend == "auto":
        chosen = choose(q, k, v, context, activation, relative_bias)
    elif refusal := why_not(backend, q, k, v, context, activation, relative_bias):
        other = "dense" if is_transformed() else "banded"
        raise ValueError(f"backend={backend!r} cannot take this call: {refusal}. Use 'auto' or {other!r}.")
    else:
        chosen = backend
    with _no_autocast(q.device.type):  # the output has q's dtype, whatever stands around the call
        if chosen == "native":
            return native_attention(parts, context, lengths, activation, relative_bias, scale)
        if chosen == "sdpa":
            return _full_attention(q, k, v, lengths, scale)
        if chosen == "banded":
            return banded_attention(parts, context, lengths, activation, relative_bias, scale)
        if chosen == "dense" and q.is_cpu and not torch.compiler.is_compiling():
            guard.check_scores(q.shape[0], q.shape[1], q.shape[2], q.element_size(), relative_bias is not None)
        function = dense_attention if chosen == "dense" else _on_request(chosen)[0]
        output: Tensor = function(q, k, v, context, lengths, activation, relative_bias, scale)
        return output


def attention_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    context: Context,
    activation: str,
    relative_bias: Tensor | None,
    scale: float,
    query_start: int,
    key_start: int,
) -> Tensor:
    """`attention` of the next frames of a stream, [B, H, n, Dv], by the backend that "auto" would take.

    Queries [B, H, n, D] are the frames from `query_start` on, which is the first of a chunk. Keys [B, H, m, D] and
    values are those from `key_start` to the newest there is: all that these queries see, or that will ever exist.
    """
    native = k.shape[2] <= NATIVE_KEYS + q.shape[2] and native_refusal(q, k, v, context) is None
    step = dense_step if is_transformed() else native_step if native else banded_step
    return step(q, k, v, context, activation, relative_bias, scale, query_start, key_start)


def why_not(
    backend: str, q: Tensor, k: Tensor, v: Tensor, context: Context, activation: str, relative_bias: Tensor | None
) -> str | None:
    """Why a backend cannot take a call of `attention`, or None if it can: dense takes every one."""
    if backend == "dense":
        return None
    if is_transformed():
        return "torch.func (vmap, grad, jvp) and forward-mode derivatives cannot see inside it"
    if backend == "native":
        return native_refusal(q, k, v, context)
    if backend == "sdpa":
        if _plain(context, activation, relative_bias):
            return None
        bias = "no bias" if relative_bias is None else "a bias"
        return (
            f"it takes softmax over an unlimited context without a bias, got {activation} over ({context}) and {bias}"
        )
    if backend == "banded":
        return None
    refusal: str | None = _on_request(backend)[1](q, k, v, context, activation, relative_bias)
    return refusal


def _on_request(backend: str) -> tuple[Callable[..., Tensor], Callable[..., str | None]]:
    """The function of a backend that "auto" never takes, and its refusal: their modules import torch's compiler."""
    if backend == "windows":
        from speechattn.attention.cuda.sdpa_windows import windowed_attention, windows_refusal

        return windowed_attention, windows_refusal
    if backend == "flex":
        from speechattn.attention.cuda.flex import flex_attention, flex_refusal

        return flex_attention, flex_refusal
    from speechattn.attention.cuda.triton import triton_attention, triton_refusal

    return triton_attention, triton_refusal


def choose(q: Tensor, k: Tensor, v: Tensor, context: Context, activation: str, relative_bias: Tensor | None) -> str:
    """The backend that "auto" takes; arguments as in `attention`.

    ============================================  ==========================================================
    inside torch.func, forward-mode derivatives   dense
    both sides unlimited, softmax, no bias        sdpa: T x T products, linear memory; on a CPU without gradients only
    float32 on a CPU with AVX2 or AVX-512, numba  native, up to 4096 keys a query
    both sides unlimited, up to 512 frames        dense
    everything else: other dtypes, CUDA           banded; windows, flex and triton wait to be measured there
    ============================================  ==========================================================
    """
    if is_transformed():
        return "dense"
    plain, frames = activation == "softmax" and relative_bias is None, q.shape[2]
    learning = q.is_cpu and is_learning((q, k, v))
    # numba is asked, and imported, where it would be taken
    chosen = automatic(context, frames, plain, native=True, learning=learning)
    if chosen == "native" and native_refusal(q, k, v, context):
        return automatic(context, frames, plain, native=False, learning=learning)
    return chosen


def _plain(context: Context, activation: str, relative_bias: Tensor | None) -> bool:
    """Whether this is what torch's own scaled_dot_product_attention computes."""
    return context.left is context.right is None and activation == "softmax" and relative_bias is None


def attention_weights(
    q: Tensor,
    k: Tensor,
    context: Context,
    *,
    lengths: Tensor | None = None,
    activation: str = "softmax",
    relative_bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Weights [B, H, T, window] for pictures, never T x T: column j is frame ``seen.span(i)[0] + j``.

    `seen` is ``context.within(T)``, the context itself unless a side is unlimited or reaches past the audio; `window`
    is its left + chunk + right. Columns outside the row's valid frames are 0, and so is every row at and past
    `lengths`. Arguments are those of `attention`; no gradient is meant to flow.
    """
    _check(q, k, k, context, activation, relative_bias)
    lengths = check_lengths(lengths, q.shape[0], q.shape[2])
    batch, heads, num_frames, dim = q.shape
    seen = context.within(num_frames)
    assert seen.window is not None
    wide = torch.promote_types(q.dtype, torch.float32)
    weights = q.new_zeros(batch, heads, num_frames, seen.window)
    columns = torch.arange(seen.window, device=q.device)
    scale = dim**-0.5 if scale is None else scale
    offsets = context.offsets() if relative_bias is None else table_offsets(relative_bias, context, num_frames)
    for row, length in enumerate([num_frames] * batch if lengths is None else lengths.tolist()):
        for begin, end, key_begin, key_end in context.schedule(length, 64):
            queries = torch.arange(begin, end, device=q.device)
            keys = torch.arange(key_begin, key_end, device=q.device)
            raw = scale * q[row, :, begin:end].to(wide) @ k[row, :, key_begin:key_end].to(wide).transpose(1, 2)
            bias = None if relative_bias is None else relative_bias.to(wide)[:, relative_index(offsets, queries, keys)]
            block = weights_of(raw, band_mask(context, queries, keys), activation, bias)
            start, _ = seen.span(queries)
            assert start is not None
            frame = start[:, None] + columns
            inside = (frame >= key_begin) & (frame < key_end)
            index = (frame - key_begin).clamp(0, len(keys) - 1).expand(heads, -1, -1)
            weights[row, :, begin:end] = block.gather(2, index) * inside
    return weights


def _no_autocast(device: str) -> AbstractContextManager[object]:
    """Leaving a mode that is off would take a good part of a short call."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def _full_attention(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None, scale: float) -> Tensor:
    """Both sides unlimited: torch's kernel, with each row's padding replaced and masked."""
    if q.shape[3] != v.shape[3]:  # then torch multiplies q and k by roots of the scale, which breaks ties
        q, scale = q * scale, 1.0
    if lengths is None:
        return scaled_dot_product_attention(q, k, v, scale=scale)
    valid = valid_mask(lengths.to(q.device), q.shape[2])[:, None, :, None]
    q, k, v = (torch.where(valid, x, x.new_zeros(())) for x in (q, k, v))
    mask = valid.transpose(2, 3) | ~valid.any(2, keepdim=True)  # an empty row sees zeros, not nothing
    output = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return torch.where(valid, output, output.new_zeros(()))


def _checked_scale(scale: float | None, features: int) -> float:
    """Return the factor on the scores as a Python number: kernels that are compiled take no other."""
    if scale is None:
        return features**-0.5  # type: ignore[no-any-return]
    number = None if isinstance(scale, Tensor | bool) else plain_number(scale)
    if not isinstance(number, int | float):
        hint = " Multiply q by a scale that is learned." if isinstance(scale, Tensor) else ""
        raise TypeError(f"scale must be a number, got {scale!r}.{hint}")
    return number


def _check(q: Tensor, k: Tensor, v: Tensor, context: Context, activation: str, relative_bias: Tensor | None) -> None:
    if not isinstance(context, Context):
        raise TypeError(f"context must be a speechattn.Context, got {type(context).__name__}.")
    if q.ndim != 4 or k.shape != q.shape or v.shape[:-1] != q.shape[:-1]:
        shapes = ", ".join(str(list(x.shape)) for x in (q, k, v))
        raise ValueError(f"q, k and v must be [B, H, T, D] with equal B, H and T, got {shapes}.")
    if not q.is_floating_point() or k.dtype != q.dtype or v.dtype != q.dtype:
        raise TypeError(f"q, k and v must share one floating dtype, got {q.dtype}, {k.dtype}, {v.dtype}.")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}.")
    if relative_bias is None:
        return
    if relative_bias.ndim != 2 or relative_bias.shape[0] != q.shape[1]:
        raise ValueError(
            f"relative_bias must be [H, len(context.offsets())] = [{q.shape[1]}, {len(context.offsets())}], "
            f"got {list(relative_bias.shape)}."
        )
    table_offsets(relative_bias, context, q.shape[2])

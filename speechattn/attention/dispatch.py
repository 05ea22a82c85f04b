"""The table of backends, and the choice of one: by name, or what "auto" takes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from speechattn.attention.banded.attention import banded_attention, banded_step
from speechattn.attention.call import AttentionCall
from speechattn.attention.dense import dense_attention, dense_step
from speechattn.attention.native.attention import native_attention, native_step, native_unsupported_reason
from speechattn.attention.qkv import QKV
from speechattn.attention.sdpa import sdpa_attention, sdpa_unsupported_reason
from speechattn.config import BACKENDS as NAMES
from speechattn.heuristics import NATIVE_KEYS, automatic
from speechattn.planning.memory_limit import check_scores
from speechattn.transforms import is_learning, is_traced, is_transformed


class Backend(NamedTuple):
    """One row of the table."""

    unsupported_reason: Callable[[QKV, AttentionCall], str | None]
    """Why the backend cannot take a call, or None if it can."""
    forward: Callable[[QKV, AttentionCall], Tensor]
    """Output [B, H, T, Dv]. The last stride of what it gets is 1, save for dense."""
    step: Callable[[QKV, AttentionCall], Tensor] | None = None
    """Output [B, H, n, Dv] of the next n frames of a stream, without gradients; None: it does not stream."""


def _takes_everything(qkv: QKV, call: AttentionCall) -> None:
    return None


BACKENDS = {
    "dense": Backend(_takes_everything, dense_attention, dense_step),
    "banded": Backend(_takes_everything, banded_attention, banded_step),
    "native": Backend(native_unsupported_reason, native_attention, native_step),
    "sdpa": Backend(sdpa_unsupported_reason, sdpa_attention),
}


def cuda_backends() -> dict[str, Backend]:
    """Return the rows that "auto" never takes. Their modules import torch's compiler, which takes a second."""
    from speechattn.attention.cuda.flex import flex_attention, flex_unsupported_reason
    from speechattn.attention.cuda.sdpa_windows import windowed_attention, windows_unsupported_reason
    from speechattn.attention.cuda.triton import triton_attention, triton_unsupported_reason

    return {
        "windows": Backend(windows_unsupported_reason, windowed_attention),
        "flex": Backend(flex_unsupported_reason, flex_attention),
        "triton": Backend(triton_unsupported_reason, triton_attention),
    }


def run(qkv: QKV, call: AttentionCall, backend: str = "auto") -> Tensor:
    """Return the output [B, H, T, Dv] of a call that has been checked.

    Raises:
        ValueError: the backend is unknown, or cannot take the call.
    """
    if backend not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(NAMES)}, got {backend!r}.")
    if backend == "auto":
        backend = choose(qkv, call)
    elif reason := unsupported_reason(backend, qkv, call):
        other = "dense" if is_transformed() else "banded"
        raise ValueError(f"backend={backend!r} cannot take this call: {reason}. Use 'auto' or {other!r}.")
    q = qkv.q
    if backend != "dense":
        qkv = qkv.with_unit_stride()
    elif q.is_cpu and not torch.compiler.is_compiling():
        check_scores(q.shape[0], q.shape[1], q.shape[2], q.element_size(), call.bias is not None)
    with _no_autocast(q.device.type):  # the output has q's dtype, whatever stands around the call
        return _row(backend).forward(qkv, call)


@torch.no_grad()
def step(qkv: QKV, call: AttentionCall) -> Tensor:
    """Return the output [B, H, n, Dv] of the next n frames of a stream, by the backend that "auto" would take.

    Queries [B, H, n, D] are the frames from `call.query_start` on, which is the first of a chunk. Keys [B, H, m, D] and
    values are those from `call.key_start` to the newest there is: all that these queries see, or that will ever exist.
    """
    if is_transformed():
        return dense_step(qkv, call)
    native = qkv.k.shape[2] <= NATIVE_KEYS + qkv.q.shape[2] and native_unsupported_reason(qkv, call) is None
    with _no_autocast(qkv.q.device.type):
        return (native_step if native else banded_step)(qkv.with_unit_stride(), call)


def choose(qkv: QKV, call: AttentionCall) -> str:
    """Return the backend that "auto" takes.

    - inside torch.func and forward-mode derivatives: dense
    - both sides unlimited, softmax, no bias: sdpa (T x T products, linear memory), on a CPU without gradients only
    - float32 on a CPU with AVX2 or AVX-512 and numba: native, up to 4096 keys per query
    - both sides unlimited, up to 512 frames: dense
    - everything else (other dtypes, CUDA): banded; windows, flex and triton are not measured there yet
    """
    if is_transformed():
        return "dense"
    plain, frames = call.activation == "softmax" and call.bias is None, qkv.q.shape[2]
    learning = qkv.q.is_cpu and is_learning(qkv[:3])
    # numba is imported by its own unsupported_reason: only where its backend would be taken.
    chosen = automatic(call.context, frames, plain, native=True, learning=learning)
    if chosen == "native" and native_unsupported_reason(qkv, call):
        return automatic(call.context, frames, plain, native=False, learning=learning)
    return chosen


def unsupported_reason(backend: str, qkv: QKV, call: AttentionCall) -> str | None:
    """Return why a backend cannot take a call, or None if it can: dense takes every one."""
    if backend == "dense":
        return None
    if is_transformed():
        return "torch.func (vmap, grad, jvp) and forward-mode derivatives cannot see inside it"
    if backend not in BACKENDS and is_traced():
        return "torch.jit.trace cannot record it"
    return _row(backend).unsupported_reason(qkv, call)


def _row(backend: str) -> Backend:
    return BACKENDS[backend] if backend in BACKENDS else cuda_backends()[backend]


def _no_autocast(device: str) -> AbstractContextManager[object]:
    """Return a context without autocast. Leaving a mode that is off would take a good part of a short call."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()

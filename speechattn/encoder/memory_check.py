"""The memory check of `Encoder.forward`: returns freed memory to the system, and refuses what would not fit."""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.attention.native.attention import native_unavailable
from speechattn.config import EncoderConfig
from speechattn.planning import memory_limit
from speechattn.planning.estimate import estimate
from speechattn.system.process_memory import (
    INFERENCE_BLOCK,
    LARGE_TRAINING,
    TRAINING_BLOCK,
    keeps_blocks,
    return_blocks,
)
from speechattn.transforms import is_traced


def check_memory(config: EncoderConfig, input: Tensor, weight: Tensor, lengths: bool, hop_ms: float) -> None:
    """Return freed memory as the estimate assumes, and raise MemoryLimitError if a limit is set and exceeded.

    `input` [B, T, input_dim] is on the CPU, or nothing is checked; `weight` has the dtype of the encoder.
    """
    traced = torch.compiler.is_compiling() or is_traced()
    if traced or not input.is_cpu or input.ndim != 3 or not input.numel():
        return
    dtype, training = str(weight.dtype).removeprefix("torch."), torch.is_grad_enabled()
    native, limit = native_unavailable() is None, memory_limit.limit_bytes()
    frames, batch_size = input.shape[1], len(input)
    if not training:
        return_blocks(INFERENCE_BLOCK)
    elif keeps_blocks(TRAINING_BLOCK):
        large = limit is not None or config.gradient_checkpointing
        if not large:
            needed = estimate(
                config, frames, batch_size, training=True, dtype=dtype, native=native, lengths=lengths, hop_ms=hop_ms
            )
            large = needed.peak_bytes >= LARGE_TRAINING
        if large:
            return_blocks(TRAINING_BLOCK)
    if limit is not None:
        memory_limit.check(
            config, frames, batch_size, training, dtype=dtype, native=native, lengths=lengths, hop_ms=hop_ms
        )

"""Attention, convolution and frontend with fixed sizes: as many frames out as in, with a fixed delay.

A layer keeps as many frames as it ever needs, zeros at first; a mask from a `Clock` says which frames exist. The
wrapped layer does the computing; here are sizes and masks only. `streaming_step.py` puts them into an encoder.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from speechattn.attention.dense import attend
from speechattn.attention.masks import band_mask
from speechattn.attention.relative_bias import relative_index
from speechattn.context import Context
from speechattn.dtypes import like
from speechattn.encoder.convolution import FramesConvolution
from speechattn.encoder.self_attention import SelfAttention
from speechattn.frontend.deltas import deltas_step
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.mfcc import MFCC
from speechattn.model_config import DELTA


class Clock(NamedTuple):
    """The position of a push, in frames: int64 scalars."""

    pushed: Tensor  # frames of earlier pushes
    end: Tensor  # real frames so far

    def exist(self, delay: int, frames: Tensor) -> Tensor:
        """Return which frames [n] are real, bool; they are counted from the first frame of a layer's push."""
        at = self.pushed - delay + frames
        return (at >= 0) & (at < self.end)


def delayed(context: Context, delay: int, push: int) -> int:
    """Return the delay of a layer's output in frames, if that of its input is `delay`."""
    assert context.kept_frames is not None
    far = push * (1 + delay + context.kept_frames)
    return far - context.ready(far - delay)


class FixedAttention(nn.Module):
    """A SelfAttention with `step`: [1, push, D] with delay `delay_in` -> [1, push, D] with delay `delay`."""

    band: Tensor
    keys: Tensor
    bias: Tensor | None

    def __init__(self, layer: SelfAttention, push: int, delay_in: int) -> None:
        super().__init__()
        self.layer, self.push, self.delay_in = layer, push, delay_in
        self.delay = delayed(layer.context, delay_in, push)
        self.wait = self.delay - delay_in
        # The first query begins a chunk: it is frame 0 here.
        start, _ = layer.context.span(0)
        assert start is not None
        device = like(layer).device
        queries, keys = torch.arange(push, device=device), torch.arange(start, self.wait + push, device=device)
        self.num_kept = len(keys) - push
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("band", band_mask(layer.context, queries, keys), persistent=False)
        table = layer.bias(layer.context, push)
        if table is not None:
            table = table.to(like(layer).dtype)[:, relative_index(layer.context.offsets(), queries, keys)]
        self.register_buffer("bias", table, persistent=False)

    def initial_state(self, batch_size: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """Return waiting queries, and kept keys and values: zeros [B, H, n, D / H]."""
        heads, width = self.layer.num_heads, self.layer.d_model // self.layer.num_heads
        sizes = (self.wait, self.num_kept, self.num_kept)
        q, k, v = (like(self.layer).new_zeros(batch_size, heads, size, width) for size in sizes)
        return q, k, v

    def step(self, input: Tensor, state: tuple[Tensor, ...], clock: Clock) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the output of the push [1, push, D], and the new state."""
        new = self.layer.project(input, clock.pushed - self.delay_in)
        q, k, v = (torch.cat(pair, 2) for pair in zip(state, new, strict=True))
        mask = self.band & clock.exist(self.delay, self.keys)
        scale = q.shape[3] ** -0.5
        heads = attend(q[:, :, : self.push], k, v, mask, self.layer.activation, self.bias, scale)
        return self.layer._merge(heads), tuple(x[:, :, self.push :] for x in (q, k, v))


class FixedConvolution(nn.Module):
    """A FramesConvolution with `step`: [1, push, D] with delay `delay_in` -> [1, push, D] with delay `delay`."""

    frames: Tensor

    def __init__(self, layer: FramesConvolution, push: int, delay_in: int) -> None:
        super().__init__()
        self.layer, self.delay_in = layer, delay_in
        self.delay = delayed(layer.context, delay_in, push)
        self.wait = self.delay - delay_in
        self.register_buffer("frames", torch.arange(push, device=like(layer).device), persistent=False)

    def initial_state(self, batch_size: int = 1) -> Tensor:
        """Return the kept frames: zeros [B, left + right, D]."""
        kept = self.layer.context.kept_frames
        assert kept is not None
        return like(self.layer).new_zeros(batch_size, kept, self.layer.d_model)

    def step(self, input: Tensor, state: Tensor, clock: Clock) -> tuple[Tensor, Tensor]:
        """Return the output of the push [1, push, D], and the new state."""
        real = clock.exist(self.delay_in, self.frames)[:, None]
        return self.layer.step(torch.where(real, input, input.new_zeros(())), state)


class FixedFrontend(nn.Module):
    """A LogMel or MFCC with `step`: samples [1, push * hop] -> frames [1, push, F] with delay `delay`."""

    def __init__(self, frontend: LogMel, push: int) -> None:
        super().__init__()
        self.frontend, self.push = frontend, push
        framing = frontend.framing
        framing.require_streamable()
        far = push * (1 + framing.hops_per_window)
        num_samples = framing.num_samples(far)
        frames = framing.num_frames(num_samples)
        self.num_inputs = framing.num_samples(push)
        self.num_kept = num_samples - framing.span_samples(frames)[0]
        self.delay = far - frames
        self.delta_delays: list[int] = []  # of what comes into each order of deltas
        for context in frontend.contexts:
            self.delta_delays.append(self.delay)
            self.delay = delayed(context, self.delay, push)

    def initial_state(self) -> tuple[Tensor, ...]:
        """Return the kept samples, and the frames kept by each order of deltas: zeros."""
        bank, width = self.frontend.filterbank, self.frontend.num_features // (1 + len(self.delta_delays))
        widths = [width * (1 + order) for order in range(len(self.delta_delays))]
        return bank.new_zeros(1, self.num_kept), *(bank.new_zeros(1, DELTA.kept_frames or 0, width) for width in widths)

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Return the frames whose last sample is among the first `num_samples`, an int64 scalar."""
        return self.frontend.framing.complete_frames(num_samples).clamp(min=0)

    def step(self, samples: Tensor, state: tuple[Tensor, ...], clock: Clock) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the frames of the push, and the new state; `clock` is in frames."""
        framing = self.frontend.framing
        waveform = torch.cat((state[0], samples), 1)
        x = self.frontend._log_mel(waveform[0].unfold(0, framing.window, framing.hop))[None]
        kept = [waveform[:, self.num_inputs :]]
        if isinstance(self.frontend, MFCC):
            x = x @ self.frontend.dct.to(x.dtype)
            width = self.frontend.num_ceps
            for delay, past in zip(self.delta_delays, state[1:], strict=True):
                window = torch.cat((past, x), 1)
                kept.append(window[:, self.push :])
                window = self._mirrored(window, delay, clock)
                x, _ = deltas_step(window[:, past.shape[1] :], window[:, : past.shape[1]], width, final=False)
        return x, tuple(kept)

    def _mirrored(self, window: Tensor, delay: int, clock: Clock) -> Tensor:
        """Return the window with the nearest frame that exists in place of each that does not."""
        begin = clock.pushed - delay - (window.shape[1] - self.push)
        frames = begin + torch.arange(window.shape[1], device=window.device)
        inside = torch.minimum(frames.clamp(min=0), clock.end - 1)
        return window.index_select(1, (inside - begin).clamp(0, window.shape[1] - 1))

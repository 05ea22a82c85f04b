"""Encoder: frames [B, T, F] -> hidden [B, T, D], whole rows at once or as a stream, with the same numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from speechattn.attention.positions import LearnedPositions, sinusoidal
from speechattn.config import ATTENTION_BLOCKS, EncoderConfig
from speechattn.context import Context
from speechattn.dtypes import fitting, like
from speechattn.encoder.blocks import ConformerBlock, ConvolutionBlock, TransformerBlock
from speechattn.encoder.frames_encoder import FramesEncoder
from speechattn.encoder.input import InputState
from speechattn.encoder.layer_dropout import is_skipped, skip
from speechattn.encoder.memory_check import check_memory
from speechattn.errors import ConfigError
from speechattn.lengths import check_lengths, lengths_of, zero_padding
from speechattn.stream_state import check_kept, fingerprint, map_tensors, num_bytes
from speechattn.system.serialization import whole
from speechattn.transforms import is_traced, is_transformed

BLOCKS = {"transformer": TransformerBlock, "conformer": ConformerBlock, "cnn": ConvolutionBlock}


@dataclass(frozen=True)
class EncoderState:
    """The state of a stream between two calls of `Encoder.step`: tensors and counters."""

    encoder: str
    """Name of the config that it belongs to."""
    frames: int
    """Frames that have entered the blocks, after stacking."""
    entry: InputState
    """State of the input layer."""
    blocks: tuple[Any, ...]
    """States of the blocks, in order."""

    @property
    def num_bytes(self) -> int:
        """Memory of all tensors, in bytes."""
        return num_bytes(self)

    def __repr__(self) -> str:
        kept = f"{self.num_bytes:,} bytes on {self.entry.window.device}"
        return f"EncoderState(of {self.encoder}, {self.batch_size} in lock-step, {self.frames} frames in, {kept})"

    @property
    def batch_size(self) -> int:
        """Streams in lock-step."""
        return len(self.entry.window)

    def to(self, *args: Any, **kwargs: Any) -> EncoderState:
        """Return the state with every tensor moved, as by `Tensor.to`."""
        moved: EncoderState = map_tensors(lambda x: x.to(*args, **kwargs), self)
        return moved


class Encoder(FramesEncoder):
    """Truncated self-attention: frames [B, T, input_dim] -> (hidden [B, T, d_model], lengths [B]).

    Time and memory are linear in T when every context is limited. Another context can be given per call,
    without new weights: ``encoder(frames, lengths, context=Context.truncated(32, 0))``. With relative positions
    the table of biases is sized by the config's context, and farther keys share its last entry.

    `block(config, context)` returns a block of your own for each layer: a module with ``forward(x, lengths, context)``
    from frames [B, T, D] to frames [B, T, D], and with `initial_state`, `step` and `flush` as those of blocks.py if it
    is to stream. `describe` is about the config, and does not know what such a block sees.

    A stream gives the same numbers: `step` returns a frame as soon as all frames that it depends on have arrived, and
    `flush` returns the pending ones at the end. A frame is computed once.

    Examples:
        >>> encoder = Encoder(EncoderConfig(input_dim=80, d_model=32, num_layers=2)).eval()
        >>> hidden, lengths = encoder(torch.zeros(1, 500, 80))
        >>> hidden.shape, lengths.tolist()
        (torch.Size([1, 500, 32]), [500])
        >>> part, state = encoder.step(torch.zeros(1, 500, 80), encoder.initial_state())
        >>> part.shape[1], encoder.flush(state).shape[1]
        (372, 128)
    """

    def __init__(
        self, config: EncoderConfig, block: Callable[[EncoderConfig, Context], nn.Module] | None = None
    ) -> None:
        super().__init__(config)
        if config.block not in BLOCKS:
            raise ConfigError(
                f"Encoder builds block={' or '.join(map(repr, BLOCKS))}, got {config.block!r}; "
                "sa.build_encoder(config) builds them all."
            )
        self.input = nn.Linear(config.entry_dim, config.d_model)
        learned = LearnedPositions(config.max_frames, config.d_model) if self._placed == "learned" else None
        self.positions: LearnedPositions | None = learned
        self.dropout = nn.Dropout(config.dropout)
        self.has_own_blocks = block is not None
        make_block = BLOCKS[config.block] if block is None else block
        self.blocks = nn.ModuleList(make_block(config, context) for context in config.layer_contexts)
        self.norm = nn.LayerNorm(config.d_model)
        self._warned = False

    def forward(
        self, input: Tensor, lengths: Tensor | None = None, context: Context | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return hidden [B, T // stack, d_model] and lengths [B] int64; exactly 0 at and past `lengths`.

        `context` replaces the context of every attention layer for this call. Lengths of None mean all frames.

        Raises:
            TypeError, ValueError: input is not [B, T, input_dim], lengths do not fit it, or context is no Context.
            MemoryLimitError: a limit was set, and it would not fit; see `memory_limit`.
        """
        if context is not None and not isinstance(context, Context):
            raise TypeError(
                f"context must be one speechattn.Context for all layers, got {context!r}. "
                "One per layer belongs into EncoderConfig(context=(...))."
            )
        self.input_layer.check(input)
        input = fitting(input, self, "encoder")
        config = self.config if context is None else replace(self.config, context=context)
        check_memory(config, input, like(self), lengths is not None, self.hop_ms)
        x, lengths = self.input_layer(input, lengths)
        x = self.dropout(self._place(self.input(x), 0, lengths))
        for block in self.blocks:
            if is_skipped(self.config.layer_dropout if self.training else 0.0):
                x = skip(block, x)
            elif self.config.gradient_checkpointing and torch.is_grad_enabled() and not is_transformed():
                # torch.func cannot go through a checkpoint: it keeps what it needs.
                x = checkpoint(block, x, lengths, context, use_reentrant=False)
            else:
                x = block(x, lengths, context)
        return zero_padding(self.norm(x), lengths), lengths_of(x, lengths)

    def initial_state(self, batch_size: int = 1) -> EncoderState:
        """Return the state of `batch_size` streams in lock-step before their first frame.

        Raises:
            ValueError: a layer's right context is unlimited: use a limited or a chunked one.
        """
        batch_size = whole("batch_size", batch_size, 0)
        for block in self.blocks:
            if not hasattr(block, "initial_state"):
                raise ValueError(
                    f"{type(block).__name__} cannot stream, it has no initial_state: encoder(frames) computes a whole "
                    "recording."
                )
        blocks = tuple(block.initial_state(batch_size) for block in self.blocks)  # type: ignore[operator]
        return EncoderState(self._fingerprint, 0, self.input_layer.initial_state(like(self), batch_size), blocks)

    def step(self, input: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """Return the hidden frames [B, m, d_model] that are ready after the next n >= 0 frames, and the new state.

        `input` is [B, n, input_dim]. The old state is not changed. No gradient flows.

        Raises:
            TypeError, ValueError: input is not [B, n, input_dim], or the state belongs to another encoder, batch size
                or dtype.
        """
        return self._step(input, state, final=False)

    def flush(self, state: EncoderState) -> Tensor:
        """Return the pending frames [B, m, d_model] at the end; a remainder of a stack is dropped."""
        rows = state.batch_size if isinstance(state, EncoderState) else 1  # another type raises below
        none = like(self).new_zeros(rows, 0, self.config.input_dim)
        return self._step(none, state, final=True)[0]

    def infer(
        self, input: Tensor, lengths: Tensor, states: EncoderState | None = None
    ) -> tuple[Tensor, Tensor, EncoderState]:
        """Call `step` with the arguments and results of torchaudio's streaming models.

        `lengths` [B] must be equal: rows of one batch are streams in lock-step. Returns hidden frames [B, m, d_model],
        their lengths [B], and the new states.
        """
        checked = check_lengths(lengths, input.shape[0], input.shape[1])
        counts = {input.shape[1]} if checked is None else set(checked.tolist())
        if len(counts) > 1:
            raise ValueError(f"lengths of streams in lock-step must be equal, got {sorted(counts)}.")
        states = self.initial_state(input.shape[0]) if states is None else states
        output, states = self.step(input[:, : max(counts, default=0)], states)
        return output, lengths_of(output, None), states

    @torch.no_grad()
    def _step(self, input: Tensor, state: EncoderState, final: bool) -> tuple[Tensor, EncoderState]:
        input = self._checked(input, state, final)
        x, entry = self.input_layer.step(input, state.entry, final)
        if not (x.shape[1] or final):  # a push too short for a frame skips the blocks
            return like(self).new_zeros(len(x), 0, self.config.d_model), replace(state, entry=entry)
        frames = state.frames + x.shape[1]
        x = self.dropout(self._place(self.input(x), state.frames))
        blocks = []
        for block, old in zip(self.blocks, state.blocks, strict=True):
            x, new = block.step(x, old, final)  # type: ignore[operator]
            blocks.append(new)
        hidden: Tensor = self.norm(x)
        return hidden, EncoderState(state.encoder, frames, entry, tuple(blocks))

    @property
    def _placed(self) -> str:
        """The position encoding that is added at the input, or "none"."""
        at_input = self.config.block in ATTENTION_BLOCKS and self.config.position_encoding in ("sinusoidal", "learned")
        return self.config.position_encoding if at_input else "none"

    def _place(self, x: Tensor, start: int, lengths: Tensor | None = None) -> Tensor:
        """Return frames [B, T, D] from `start` on with their absolute positions added, if the config has such."""
        if self.positions is not None:
            # A learned table must cover the frames, not the padding. Inside torch.func the lengths have no values, and
            # a trace would keep them for all later calls.
            whole = lengths is None or not len(lengths) or is_transformed() or is_traced()
            count = x.shape[1] if lengths is None or whole else int(lengths.max())
            return torch.cat((x[:, :count] + self.positions(start, count), x[:, count:]), 1)
        if self._placed == "sinusoidal":
            return x + sinusoidal(torch.arange(start, start + x.shape[1], device=x.device), x.shape[2], x.dtype)
        return x

    @property
    def _fingerprint(self) -> str:
        return fingerprint(self.config)

    def _checked(self, input: Tensor, state: EncoderState, final: bool) -> Tensor:
        """Return the input in the encoder's dtype; raise if it or the state is not this encoder's."""
        self.input_layer.check(input)
        input = fitting(input, self, "encoder")
        if not isinstance(state, EncoderState):
            raise TypeError(f"state must come from initial_state or step, got {type(state).__name__}.")
        if state.encoder != self._fingerprint:
            raise ValueError(
                f"the state belongs to an encoder with another config or version ({state.encoder}, this is "
                f"{self._fingerprint}): begin with encoder.initial_state(batch_size)."
            )
        check_kept(state.entry.window, input, like(self), "encoder", "move it with state.to(...)")
        if not final:
            self.warn_in_training("encoder", stacklevel=5)
        return input

    def warn_in_training(self, name: str, stacklevel: int) -> None:
        """Warn that dropout is active in a stream, once until the mode is set again; `name` is the caller's object."""
        if self.training and not self._warned:
            warnings.warn(
                f"streaming in training mode: dropout is active. Call {name}.eval().", stacklevel=stacklevel + 1
            )
            self._warned = True

    def train(self, mode: bool = True) -> Encoder:
        """Set training mode, and let a stream warn again."""
        self._warned = False
        return super().train(mode)

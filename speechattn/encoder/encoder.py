"""The encoder: frames [B, T, F] -> hidden [B, T, D], whole rows at once or as a stream, with the same numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.utils.checkpoint import checkpoint

from speechattn.attention.native.attention import native_unavailable
from speechattn.attention.positions import LearnedPositions, sinusoidal
from speechattn.config import ATTENTION_BLOCKS, EncoderConfig
from speechattn.context import Context
from speechattn.dtypes import fitting, like
from speechattn.encoder.blocks import ConformerBlock, ConvolutionBlock, TransformerBlock
from speechattn.encoder.input import Entry, EntryState
from speechattn.errors import ConfigError
from speechattn.framing import HOP_MS
from speechattn.lengths import check_lengths, lengths_of, zero_padding
from speechattn.planning import memory_limit as guard
from speechattn.planning.estimate import estimate
from speechattn.receptive_field import (
    describe,
    format_latency,
    lookahead,
    lookback,
    max_receptive_field,
    receptive_field,
)
from speechattn.stream_state import check_kept, fingerprint, moved, num_bytes
from speechattn.system.process_memory import (
    INFERENCE_BLOCK,
    LARGE_TRAINING,
    TRAINING_BLOCK,
    keeps_blocks,
    return_blocks,
)
from speechattn.system.serialization import whole
from speechattn.transforms import is_transformed

BLOCKS = {"transformer": TransformerBlock, "conformer": ConformerBlock, "cnn": ConvolutionBlock}


class FramesEncoder(nn.Module):
    """What every encoder behind the one door shares: its config, and the derived numbers a user asks for.

    All are counted in input frames.
    """

    hop_ms: float = HOP_MS
    """Length of an input frame, for what is printed; a SpeechModel sets that of its frontend."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.enter = Entry(config)

    def receptive_field(self, i: int, num_frames: int | None = None) -> tuple[int, int | None]:
        """Return the half-open range of input frames that output frame `i` depends on, through all layers.

        With `stack`, output frame i stands for the input frames from i * stack on.
        """
        config = self.config
        spliced = config.num_entry_contexts
        entry, behind = config.contexts[:spliced], config.contexts[spliced:]
        # The remainder that does not fill a stack reaches nobody, save as a neighbour spliced to a frame before it.
        whole = None if num_frames is None else num_frames // config.stack * config.stack
        start, stop = receptive_field(behind, i * config.stack, whole)
        start, _ = receptive_field(entry, start, num_frames)
        return start, None if stop is None else receptive_field(entry, stop - 1, num_frames)[1]

    @property
    def lookahead(self) -> int | None:
        """The most future frames any output waits for; None is all of them."""
        return lookahead(self.config.contexts)

    @property
    def lookback(self) -> int | None:
        """The most past frames any output can see; None is all of them."""
        return lookback(self.config.contexts)

    def describe(self, hop_ms: float | None = None) -> str:
        """Return what is seen back, waited for and kept, per layer and through the stack, in frames and ms.

        A frame is `hop_ms` long; None takes the attribute, which a SpeechModel sets to that of its frontend.
        """
        return describe(self.config.contexts, self.hop_ms if hop_ms is None else hop_ms, self.config.context_names)

    @property
    def num_parameters(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def extra_repr(self) -> str:
        contexts = self.config.contexts
        derived = {
            "receptive_field": max_receptive_field(contexts),
            "lookback": self.lookback,
            "lookahead": self.lookahead,
        }
        told = [f"{name}={'unlimited' if frames is None else frames}" for name, frames in derived.items()]
        told.append(f"parameters={self.num_parameters:,}")
        if self.lookahead is None:
            return ", ".join(told)
        # Another line: what a user waits for in ms, and which layer is to blame.
        waits = [format_latency(contexts[:depth], self.hop_ms) for depth in range(1, len(contexts) + 1)]
        through = [f"{name}: {wait}" for name, wait in zip(self.config.context_names, waits, strict=True)]
        whole = f"latency {format_latency(contexts, self.hop_ms)} (min / mean / max, frames of {self.hop_ms:g} ms)"
        return ", ".join(told) + f"\n{whole}" + (f", through {', '.join(through)}" if len(through) > 1 else "")


class _Skipped(torch.autograd.Function):
    """The identity, with gradients of 0 for the parameters of a block that was skipped.

    DistributedDataParallel waits for a gradient of every parameter, and each rank skips blocks of its own. In one
    process they stay without a gradient, so that no optimizer decays or moves them in that step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(*parameters)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return grad, *map(torch.zeros_like, ctx.saved_tensors)


@dataclass(frozen=True)
class EncoderState:
    """What a stream keeps between two calls of `Encoder.step`: tensors and counters, nothing that remembers.

    `encoder` names the config it belongs to, `frames` counts what has entered the blocks.
    """

    encoder: str
    frames: int
    entry: EntryState
    blocks: tuple[Any, ...]

    @property
    def num_bytes(self) -> int:
        """Memory of all tensors, in bytes."""
        return num_bytes((self.entry, self.blocks))

    def __repr__(self) -> str:
        kept = f"{self.num_bytes:,} bytes on {self.entry.window.device}"
        return f"EncoderState(of {self.encoder}, {self.batch_size} in lock-step, {self.frames} frames in, {kept})"

    @property
    def batch_size(self) -> int:
        """Streams in lock-step."""
        return len(self.entry.window)

    def to(self, *args: Any, **kwargs: Any) -> EncoderState:
        """The state with every tensor moved, as by `Tensor.to`."""
        entry, blocks = moved((self.entry, self.blocks), *args, **kwargs)
        return replace(self, entry=entry, blocks=blocks)


class Encoder(FramesEncoder):
    """Truncated self-attention: frames [B, T, input_dim] -> (hidden [B, T, d_model], lengths [B]).

    Time and memory are linear in T when every context is limited. Another context can be given per call,
    without new weights: ``encoder(frames, lengths, context=Context.truncated(32, 0))``. With relative positions
    the table of biases is sized by the config's context, and farther keys share its last entry.

    A stream gives the same numbers: every frame comes out of `step` as soon as all it may see has come in, and
    `flush` gives what is still owed at the end. A frame is computed once.

    Example:
        >>> encoder = Encoder(EncoderConfig(input_dim=80, d_model=32, num_layers=2)).eval()
        >>> hidden, lengths = encoder(torch.zeros(1, 500, 80))
        >>> hidden.shape, lengths.tolist()
        (torch.Size([1, 500, 32]), [500])
        >>> part, state = encoder.step(torch.zeros(1, 500, 80), encoder.initial_state())
        >>> part.shape[1], encoder.flush(state).shape[1]
        (372, 128)
    """

    def __init__(self, config: EncoderConfig) -> None:
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
        self.blocks = nn.ModuleList(BLOCKS[config.block](config, context) for context in config.layer_contexts)
        self.norm = nn.LayerNorm(config.d_model)
        self._warned = False

    def forward(
        self, input: Tensor, lengths: Tensor | None = None, context: Context | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden [B, T // stack, d_model] and lengths [B] int64; exactly 0 at and past `lengths`.

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
        self.enter.check(input)
        input = fitting(input, self, "encoder")
        self._check_memory(input, lengths is not None, context)
        x, lengths = self.enter(input, lengths)
        x = self.dropout(self._place(self.input(x), 0, lengths))
        for block, kept in zip(self.blocks, self._kept(), strict=True):
            if not kept:
                if torch.is_grad_enabled() and distributed.is_available() and distributed.is_initialized():
                    x = _Skipped.apply(x, *block.parameters())  # type: ignore[no-untyped-call]
            elif self.config.gradient_checkpointing and torch.is_grad_enabled() and not is_transformed():
                # torch.func cannot go through a checkpoint: it keeps what it needs.
                x = checkpoint(block, x, lengths, context, use_reentrant=False)
            else:
                x = block(x, lengths, context)
        return zero_padding(self.norm(x), lengths), lengths_of(x, lengths)

    def _check_memory(self, input: Tensor, lengths: bool, context: Context | None) -> None:
        """Return freed memory, as plans assume, and refuse what would not fit, if there is a limit; see
        planning/memory_limit.py.
        """
        if (
            torch.compiler.is_compiling()
            or torch._C._is_tracing()
            or not input.is_cpu
            or input.ndim != 3
            or not input.numel()
        ):
            return
        config = self.config if context is None else replace(self.config, context=context)
        dtype, learning = str(like(self).dtype).removeprefix("torch."), torch.is_grad_enabled()
        native = native_unavailable() is None
        sizes = {"dtype": dtype, "native": native, "lengths": lengths, "hop_ms": self.hop_ms}
        if not learning:
            return_blocks(INFERENCE_BLOCK)
        elif keeps_blocks(TRAINING_BLOCK) and (
            guard.limit_bytes() is not None
            or config.gradient_checkpointing
            or estimate(config, input.shape[1], len(input), training=True, **sizes).peak_bytes >= LARGE_TRAINING  # type: ignore[arg-type]
        ):
            return_blocks(TRAINING_BLOCK)
        if guard.limit_bytes() is not None:
            guard.check(config, input.shape[1], len(input), learning, **sizes)  # type: ignore[arg-type]

    def initial_state(self, batch_size: int = 1) -> EncoderState:
        """The state of `batch_size` streams in lock-step that have not begun.

        Raises:
            ValueError: a layer's right context is unlimited: use a limited or a chunked one.
        """
        batch_size = whole("batch_size", batch_size, 0)
        blocks = tuple(block.initial_state(batch_size) for block in self.blocks)  # type: ignore[operator]
        return EncoderState(self._fingerprint, 0, self.enter.initial_state(like(self), batch_size), blocks)

    def step(self, input: Tensor, state: EncoderState) -> tuple[Tensor, EncoderState]:
        """The hidden frames [B, m, d_model] that have become ready after the next n >= 0 frames, and the new state.

        `input` is [B, n, input_dim]. The old state is left as it was. No gradient flows.

        Raises:
            TypeError, ValueError: input is not [B, n, input_dim], or the state belongs to another encoder, batch size
                or dtype.
        """
        return self._step(input, state, final=False)

    def flush(self, state: EncoderState) -> Tensor:
        """The frames still owed [B, m, d_model] when no more will come; a remainder of a stack is dropped."""
        rows = state.batch_size if isinstance(state, EncoderState) else 1  # another state is refused below
        none = like(self).new_zeros(rows, 0, self.config.input_dim)
        return self._step(none, state, final=True)[0]

    def infer(
        self, input: Tensor, lengths: Tensor, states: EncoderState | None = None
    ) -> tuple[Tensor, Tensor, EncoderState]:
        """`step` with the arguments and the triple that torchaudio's streaming models have.

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
        x, entry = self.enter.step(input, state.entry, final)
        if not (x.shape[1] or final):  # a push too short for a frame costs next to nothing
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
        """The positions that are added to the frames at the input, or "none"."""
        at_input = self.config.block in ATTENTION_BLOCKS and self.config.position_encoding in ("sinusoidal", "learned")
        return self.config.position_encoding if at_input else "none"

    def _place(self, x: Tensor, start: int, lengths: Tensor | None = None) -> Tensor:
        """Frames [B, T, D] from `start` on with their absolute positions added, if the config has such."""
        if self.positions is not None:
            # A learned table must reach as far as there are frames, not as far as there is padding.
            # Inside torch.func no number can be looked at, and a trace would keep it for all later calls.
            whole = lengths is None or not len(lengths) or is_transformed() or torch._C._is_tracing()
            count = x.shape[1] if lengths is None or whole else int(lengths.max())
            return torch.cat((x[:, :count] + self.positions(start, count), x[:, count:]), 1)
        if self._placed == "sinusoidal":
            return x + sinusoidal(torch.arange(start, start + x.shape[1], device=x.device), x.shape[2], x.dtype)
        return x

    def _kept(self) -> Iterator[bool]:
        """Whether each block is computed, drawn when it is its turn: in training those that layer dropout leaves."""
        dropped = self.config.layer_dropout if self.training else 0.0
        for _ in self.blocks:
            yield not (dropped and torch.rand(()) < dropped)

    @property
    def _fingerprint(self) -> str:
        return fingerprint(self.config)

    def _checked(self, input: Tensor, state: EncoderState, final: bool) -> Tensor:
        """Return the input in the encoder's dtype; raise if it or the state is not this encoder's."""
        self.enter.check(input)
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
        """Say that dropout is active in a stream, once until the mode is set again; `name` is what the caller holds."""
        if self.training and not self._warned:
            warnings.warn(
                f"streaming in training mode: dropout is active. Call {name}.eval().", stacklevel=stacklevel + 1
            )
            self._warned = True

    def train(self, mode: bool = True) -> Encoder:
        self._warned = False
        return super().train(mode)

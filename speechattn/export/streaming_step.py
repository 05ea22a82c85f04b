"""StreamingStep: the outputs of `step` and `flush`, push by push, with tensors of fixed shapes.

Eager streaming grows its caches as needed and returns as many frames as are ready. A graph for another runtime needs
fixed sizes. So all pushes have one length, and every layer keeps as many frames as it ever needs, zeros at first. A
push holds whole chunks and stacks, so every layer returns as many frames as it gets, each as early as eager does; the
first ones lie before frame 0::

    chunk=1, right=2, pushes of 4       in     0 1 2 3   4 5 6 7   8 9 . .   . . . .      10 frames, then zeros
                                        out    - - 0 1   2 3 4 5   6 7 8 9   - - - -
                                        rows     2 4       0 4       0 4       0 0

Two counts, of pushed and of real frames, decide which output frames exist. Layers and weights are a copy of the
model's, with those that mix frames wrapped by `static_layers.py`.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from speechattn.attention.positions import sinusoidal
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.dtypes import like
from speechattn.encoder.convolution import FramesConvolution
from speechattn.encoder.encoder import Encoder
from speechattn.encoder.input import InputState
from speechattn.encoder.self_attention import SelfAttention
from speechattn.errors import UserError
from speechattn.export.static_layers import Clock, FixedAttention, FixedConvolution, FixedFrontend, delayed
from speechattn.models.speech_model import SpeechModel
from speechattn.stream_state import map_tensors, tensors


class StreamingStep(nn.Module):
    """One push of a stream with fixed sizes: a model's samples -> logits, or an encoder's frames -> hidden frames.

    Args:
        model: its layers and weights are copied, in evaluation mode.
        push_frames: frames of a push at the input, a multiple of every chunk (times stack) and of stack.

    Shape:
        input [1, push], samples, or frames [1, push, F], push in `num_inputs`; valid, int64 scalar: how many of them
        are real, all until the recording ends; counter [2] int64: inputs of earlier pushes, and the real ones among
        them; caches: tensors of fixed shapes. `initial_state` is all zeros. -> output [1, num_outputs, D]; rows [2]
        int64: the output rows [rows[0], rows[1]) are frames, the others 0; counter and caches for the next push.

    At the end push the remainder padded with zeros, then zeros with `valid` 0, until rows[1] < num_outputs. Input
    after a push that was not full is ignored.

    Raises:
        UserError: the push does not fit, a side is unlimited, frames are centred, or the encoder does not stream.

    Examples:
        >>> config = EncoderConfig(3, d_model=8, num_heads=2, num_layers=1, context=Context.truncated(5, 2))
        >>> step = StreamingStep(Encoder(config), push_frames=4)
        >>> hidden, rows, counter, caches = step(torch.ones(1, 4, 3), torch.tensor(4), *step.initial_state())
        >>> hidden.shape, rows.tolist(), counter.tolist(), step.delay
        (torch.Size([1, 4, 8]), [2, 4], [4, 4], 2)
    """

    def __init__(self, model: SpeechModel | Encoder, push_frames: int) -> None:
        super().__init__()
        encoder = model.encoder if isinstance(model, SpeechModel) else model
        if not isinstance(encoder, Encoder):
            raise UserError(f"{type(encoder).__name__} does not stream: use a transformer, conformer or cnn.")
        if isinstance(model, SpeechModel) and model.config.head == "utterance":
            raise UserError('a model with head="utterance" does not stream: export its encoder, model.encoder.')
        _check_push(encoder.config, push_frames)
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.encoder: Encoder = self.model.encoder if isinstance(self.model, SpeechModel) else self.model  # type: ignore[assignment]
        config, self.push_frames = encoder.config, push_frames
        self.frontend = FixedFrontend(self.model.frontend, push_frames) if isinstance(self.model, SpeechModel) else None
        self.num_inputs = self.frontend.num_inputs if self.frontend else push_frames
        self.num_outputs = push_frames // config.stack
        self._input_delay = self.frontend.delay if self.frontend else 0
        spliced = delayed(config.splice, self._input_delay, push_frames)
        self._entry_delay = delayed(Context(0, 0, config.stack), spliced, push_frames) // config.stack
        self._num_unstacked = self._entry_delay * config.stack - spliced
        delay = self._entry_delay
        for block in self.encoder.blocks:
            delay = _fix(block, self.num_outputs, delay)
        self._delay = delay

    @property
    def delay(self) -> int:
        """Frames, counted at the input, by which the output of a push is late."""
        return self._delay * self.encoder.config.stack

    def initial_state(self) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the counter and the caches before the first push."""
        counter = torch.zeros(2, dtype=torch.int64, device=like(self.encoder).device)
        return counter, tuple(x for x in tensors(self._tree()) if x.numel())

    def forward(
        self, input: Tensor, valid: Tensor, counter: Tensor, caches: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        """Return output, rows, counter and caches: see the class."""
        pushed, real = counter[0], counter[1]
        real = torch.where(real == pushed, real + valid, real)
        counter = torch.stack((pushed + self.num_inputs, real))
        given = iter(caches)
        samples, entry, blocks = map_tensors(lambda x: next(given) if x.numel() else x, self._tree())
        clock = Clock(pushed, real)
        if self.frontend is not None:
            clock = Clock(self.frontend.frontend.framing.num_hops(pushed), self.frontend.num_frames(real))
            input, samples = self.frontend.step(input, samples, clock)
            input = self.model.normalize(input)  # type: ignore[operator]
        hidden, entry, blocks, clock = self._encode(input, entry, blocks, clock)
        if isinstance(self.model, SpeechModel):
            hidden = self.model.head(hidden)
        first = clock.pushed - self._delay
        rows = torch.stack((-first, clock.end - first)).clamp(0, self.num_outputs)
        exist = clock.exist(self._delay, torch.arange(self.num_outputs, device=hidden.device))
        output = torch.where(exist[:, None], hidden, hidden.new_zeros(()))
        return output, rows, counter, tuple(x for x in tensors((samples, entry, blocks)) if x.numel())

    def _encode(
        self, frames: Tensor, entry: InputState, blocks: tuple[Any, ...], clock: Clock
    ) -> tuple[Tensor, InputState, tuple[Any, ...], Clock]:
        """Return the hidden frames of a push, the new states, and the clock in stacked frames."""
        encoder, stack = self.encoder, self.encoder.config.stack
        real = clock.exist(self._input_delay, torch.arange(self.push_frames, device=frames.device))
        frames = torch.where(real[:, None], frames, frames.new_zeros(()))
        x, entry = encoder.input_layer.step(frames, entry, final=False)
        clock = Clock(clock.pushed // stack, clock.end // stack)
        x = self._place(encoder.input(x), clock)
        states = []
        for block, state in zip(encoder.blocks, blocks, strict=True):
            # A block passes its last argument to the layers that mix frames, and does not read it.
            x, state = block.step(x, state, clock)  # type: ignore[operator]
            states.append(state)
        return encoder.norm(x), entry, tuple(states), clock

    def _place(self, x: Tensor, clock: Clock) -> Tensor:
        """Return `Encoder._place` at positions that are tensors; past the end of a learned table a frame is NaN."""
        frames = clock.pushed - self._entry_delay + torch.arange(x.shape[1], device=x.device)
        if self.encoder.positions is not None:
            table = self.encoder.positions.table
            lost = (frames >= len(table)) & (frames < clock.end)
            placed = x + table.index_select(0, frames.clamp(0, len(table) - 1))
            return torch.where(lost[:, None], torch.full_like(x, torch.nan), placed)
        if self.encoder._placed == "sinusoidal":
            return x + sinusoidal(frames, x.shape[2], x.dtype)
        return x

    def _tree(self) -> tuple[Any, ...]:
        """Return the states of frontend, input layer and blocks before the first push."""
        config, empty = self.encoder.config, like(self.encoder)
        window = empty.new_zeros(1, config.splice.kept_frames or 0, config.input_dim)
        rest = empty.new_zeros(1, self._num_unstacked, config.entry_dim // config.stack)
        samples = self.frontend.initial_state() if self.frontend else ()
        return samples, InputState(window, rest), tuple(_initial_state(block) for block in self.encoder.blocks)


def _fix(block: nn.Module, push: int, delay: int) -> int:
    """Replace the layers of a block that mix frames by those of fixed size, and return the delay after it."""
    for name, layer in list(block.named_children()):
        fixed: FixedAttention | FixedConvolution
        if isinstance(layer, SelfAttention):
            fixed = FixedAttention(layer, push, delay)
        elif isinstance(layer, FramesConvolution):
            fixed = FixedConvolution(layer, push, delay)
        else:
            continue
        block.add_module(name, fixed)
        delay = fixed.delay
    return delay


def _initial_state(block: nn.Module) -> Any:
    """Return a block's initial state with as many waiting frames as every push has."""
    state = block.initial_state(1)  # type: ignore[operator]
    fixed = [layer for layer in block.children() if isinstance(layer, FixedAttention | FixedConvolution)]
    waiting = [name for name in state._fields if name.startswith("waiting")]
    frames = {
        name: state.waiting.new_zeros(1, layer.wait, state.waiting.shape[2])
        for name, layer in zip(waiting, fixed, strict=True)
    }
    return state._replace(**frames)


def _check_push(config: EncoderConfig, push_frames: int) -> None:
    """Raise UserError if the step of this config has no fixed size."""
    for name, context in zip(config.context_names, config.contexts, strict=True):
        if context.left is None:
            raise UserError(
                f"layer {name} sees all of the past ({context}): what it keeps would grow with the audio, and a graph "
                "has fixed sizes. Use a context with a left limit, Context.causal(left)."
            )
        if context.right is None:
            raise UserError(
                f"layer {name} sees all of the future ({context}) and cannot stream: "
                "use Context.truncated(left, right) or Context.chunked(chunk, left)."
            )
    unit = math.lcm(*(context.chunk for context in config.contexts))
    if isinstance(push_frames, bool) or not isinstance(push_frames, int) or push_frames < 1 or push_frames % unit:
        fit = unit * max(1, round(push_frames / unit)) if isinstance(push_frames, int | float) else unit
        raise UserError(
            f"push_frames must be a multiple of {unit} frames, whole chunks and stacks, got {push_frames!r}: use {fit}."
        )

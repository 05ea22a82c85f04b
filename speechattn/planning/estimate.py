"""`estimate`: memory, operations, latency and time of an encoder over so much audio, before anything is allocated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

from speechattn import context as law
from speechattn.config import ATTENTION_BLOCKS, EncoderConfig
from speechattn.errors import ConfigError
from speechattn.framing import HOP_MS
from speechattn.planning import memory
from speechattn.planning.flops import num_parameters, work
from speechattn.planning.machine_speed import Machine
from speechattn.system.units import parse_bytes

MODES = ("inference", "training", "streaming")
PLANNED = ("transformer", "conformer", "cnn")
PUSH = 100
"""Frames of a push of a stream: a second."""
PROCESS_BYTES = 760_000_000
"""What Python, torch 2.11 with its libraries for CUDA, and numba's loops hold before the first frame."""
OPTIMIZER_COPIES = 2
"""Tensors that AdamW keeps for every weight."""
MAX_FRAMES = 2**40
BACKWARD = 3
"""Operations of forward and backward together, as a multiple of the forward ones."""


@dataclass(frozen=True)
class Estimate:
    """What an encoder takes for so many frames; bytes and operations are of all rows of the batch.

    `peak_bytes` is what a call needs beside weights and input at its worst moment, which `where` names and `by_part`
    splits; its output is counted. `total_bytes` is all of a process.
    """

    config: EncoderConfig
    frames: int
    batch_size: int
    mode: str
    dtype: str
    peak_bytes: int
    where: str
    by_part: dict[str, int]
    weight_bytes: int
    """Weights, and in training their gradients and what AdamW keeps of them."""
    input_bytes: int
    state_bytes: int | None
    """What a stream keeps between pushes, at most; None when it grows, or cannot stream."""
    flops: int
    flops_by_part: dict[str, int]
    hop_ms: float
    """Length of a frame."""
    latency_ms: float | None
    """What the last layer waits for at most; None is the end of the audio."""
    seconds: float | None
    """On the machine that was given, or None."""

    @property
    def total_bytes(self) -> int:
        """The whole process: Python and torch, weights, input, and the peak."""
        return PROCESS_BYTES + self.weight_bytes + self.input_bytes + self.peak_bytes

    @property
    def audio_s(self) -> float:
        """Length of a row, in seconds."""
        return self.frames * self.hop_ms / 1000


def estimate(
    config: EncoderConfig,
    frames: int,
    batch_size: int = 1,
    training: bool = False,
    *,
    streaming: bool = False,
    push: int = PUSH,
    dtype: str = "float32",
    native: bool = True,
    lengths: bool | None = None,
    hop_ms: float = HOP_MS,
    machine: Machine | None = None,
) -> Estimate:
    """Memory, operations, latency and time of `config` over rows of `frames` frames. Allocates nothing.

    Args:
        config: the encoder; `gradient_checkpointing` counts, and so does `backend`: "flex" and "triton" are planned
            as "banded".
        frames: of a row, before stacking.
        batch_size: rows.
        training: forward and backward, with AdamW's memory in `weight_bytes`; else without gradients.
        streaming: `step` with `push` frames at a time; memory then does not depend on `frames`.
        dtype: of weights and frames, by torch's name.
        native: whether numba's loops can run, which need less memory than torch's.
        lengths: whether the call has lengths; None is where there is more than one row.
        hop_ms: length of a frame.
        machine: rates to tell the time from.

    Raises:
        ConfigError: a number is negative or no whole number, the dtype is unknown, or the block has no plan.

    Example:
        >>> hour = estimate(EncoderConfig(input_dim=80), frames=360_000)
        >>> hour.where, round(hour.peak_bytes / 1e9, 1), hour.latency_ms
        ('attention', 2.2, 3840.0)
    """
    _check(config, frames, batch_size, training, streaming, push, dtype)
    frames, batch_size, push = int(frames), int(batch_size), int(push)  # numpy's integers overflow
    ragged = batch_size > 1 if lengths is None else lengths
    shapes = memory.Shapes(config, frames, batch_size, dtype, native, ragged)
    mode = "training" if training else "streaming" if streaming else "inference"
    moments = {
        "inference": lambda: memory.inference(shapes),
        "training": lambda: memory.training(shapes),
        "streaming": lambda: memory.streaming(shapes, push),
    }[mode]()
    worst = max(moments, key=lambda moment: moment.num_bytes)
    copies = 2 + OPTIMIZER_COPIES if training else 1
    wanted = work(config, frames, batch_size)
    times = BACKWARD if training else 1
    waited = law.lookahead(config.contexts)
    return Estimate(
        config=config,
        frames=frames,
        batch_size=batch_size,
        mode=mode,
        dtype=dtype,
        peak_bytes=worst.num_bytes,
        where=worst.where,
        by_part={name: size for name, size in worst.alive.items() if size},
        weight_bytes=copies * num_parameters(config) * shapes.item,
        input_bytes=batch_size * (min(push, frames) if streaming else frames) * config.input_dim * shapes.item,
        state_bytes=_bounded_state(shapes),
        flops=times * wanted.flops,
        flops_by_part={name: times * flops for name, flops in wanted.by_part.items()},
        hop_ms=hop_ms,
        latency_ms=None if waited is None else waited * hop_ms,
        seconds=None if machine is None else _seconds(shapes, training, push if streaming else None, machine),
    )


def max_frames(
    config: EncoderConfig,
    total_bytes: int | str,
    batch_size: int = 1,
    training: bool = False,
    *,
    dtype: str = "float32",
    native: bool = True,
) -> int:
    """The most frames of a row whose plan fits into `total_bytes` for the whole process; 0 if not even one does.

    `total_bytes` is a number or a size as "8GB"; the rest as in `estimate`.

    Example:
        >>> max_frames(EncoderConfig(input_dim=80), "8GB") // 360_000  # hours
        3
    """
    _check(config, 0, batch_size, training, False, PUSH, dtype)
    total = parse_bytes(total_bytes, "total_bytes") if isinstance(total_bytes, str) else total_bytes

    def fits(frames: int) -> bool:
        return estimate(config, frames, batch_size, training, dtype=dtype, native=native).total_bytes <= total

    return max_that_fits(fits)


def max_that_fits(fits: Callable[[int], bool]) -> int:
    """The largest number up to 2**40 that fits, where every smaller one does; 0 if none."""
    low, high = 0, 1
    while high < MAX_FRAMES and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _bounded_state(shapes: memory.Shapes) -> int | None:
    try:
        return memory.state_bytes(shapes)
    except ValueError:
        return None


def _seconds(shapes: memory.Shapes, training: bool, push: int | None, machine: Machine) -> float:
    wanted = work(shapes.config, shapes.num_frames, shapes.batch_size, training)
    if training:
        again = machine.inference.seconds(wanted) if shapes.config.gradient_checkpointing else 0.0
        return machine.training.seconds(wanted) + again
    pushes = 0 if push is None else -(-shapes.num_frames // push)
    return machine.inference.seconds(wanted) + pushes * shapes.config.num_layers * machine.step_s


def _check(
    config: EncoderConfig, frames: int, batch_size: int, training: bool, streaming: bool, push: int, dtype: str
) -> None:
    if not isinstance(config, EncoderConfig):
        raise ConfigError(f"plan takes an EncoderConfig, got {type(config).__name__}; of a model it is config.encoder.")
    if config.block not in PLANNED:
        raise ConfigError(f'block="{config.block}" has no plan; {", ".join(PLANNED)} have.')
    for name, number, least in (("frames", frames, 0), ("batch_size", batch_size, 1), ("push", push, 1)):
        if not isinstance(number, Integral) or isinstance(number, bool) or not least <= number <= MAX_FRAMES:
            raise ConfigError(f"{name} must be a whole number from {least} to 2**40, got {number!r}.")
    if dtype not in memory.BYTES:
        raise ConfigError(f"dtype must be one of {', '.join(memory.BYTES)}, got {dtype!r}.")
    if training and streaming:
        raise ConfigError("a stream has no gradients: plan training or streaming, not both.")
    if streaming and config.block in ATTENTION_BLOCKS:
        if any(context.right is None for context in config.layer_contexts):
            raise ConfigError("unlimited right context cannot stream: give every context a right, or a chunk.")
        if any(context.left is None for context in config.layer_contexts):
            raise ConfigError("unlimited left context has a state that grows without end: give every context a left.")

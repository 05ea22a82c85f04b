"""`estimate`: memory, operations, latency and time of an encoder over a length of audio. Allocates nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

from speechattn.config import ATTENTION_BLOCKS, EncoderConfig
from speechattn.errors import ConfigError
from speechattn.framing import HOP_MS
from speechattn.planning import memory
from speechattn.planning.flops import num_parameters, work
from speechattn.planning.machine_speed import Machine
from speechattn.planning.shapes import BYTES, Shapes
from speechattn.receptive_field import lookahead
from speechattn.system.units import parse_bytes

MODES = ("inference", "training", "streaming")
ESTIMATED_BLOCKS = ("transformer", "conformer", "cnn")
PUSH = 100
"""Frames of one step of a stream: a second."""
PROCESS_BYTES = 760_000_000
"""Memory of Python, torch 2.11 with its CUDA libraries, and numba before the first frame."""
OPTIMIZER_COPIES = 2
"""Tensors that AdamW keeps per weight."""
MAX_FRAMES = 2**40
BACKWARD = 3
"""Operations of forward and backward together, divided by those of forward."""


@dataclass(frozen=True)
class Estimate:
    """Costs of an encoder for so many frames; bytes and operations are of all rows of the batch.

    `peak_bytes` is the largest memory of a call beside weights and input, output included; `where` names the moment
    and `by_part` splits it. `total_bytes` is the whole process.
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
    """Weights, and in training their gradients and AdamW's state."""
    input_bytes: int
    state_bytes: int | None
    """Largest state of a stream between pushes; None if it grows, or the encoder cannot stream."""
    flops: int
    flops_by_part: dict[str, int]
    hop_ms: float
    """Length of a frame."""
    latency_ms: float | None
    """Largest look-ahead of all layers together; None is the end of the audio."""
    seconds: float | None
    """Time on the given machine, or None."""

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
    """Estimate memory, operations, latency and time of `config` over rows of `frames` frames. Allocates nothing.

    Args:
        config: the encoder; `gradient_checkpointing` counts, and so does `backend`: "flex" and "triton" are estimated
            as "banded".
        frames: of a row, before stacking.
        batch_size: rows.
        training: forward and backward, with AdamW's memory in `weight_bytes`; else without gradients.
        streaming: `step` with `push` frames at a time; memory then does not depend on `frames`.
        push: frames per step.
        dtype: of weights and frames, by torch's name.
        native: whether native attention (numba) can run, which needs less memory than torch's.
        lengths: whether the call has lengths; None is True for more than one row.
        hop_ms: length of a frame.
        machine: rates for the time.

    Raises:
        ConfigError: a number is negative or not whole, the dtype is unknown, or the block cannot be estimated.

    Examples:
        >>> hour = estimate(EncoderConfig(input_dim=80), frames=360_000)
        >>> hour.where, round(hour.peak_bytes / 1e9, 1), hour.latency_ms
        ('attention', 2.2, 3840.0)
    """
    _check(config, frames, batch_size, training, streaming, push, dtype)
    frames, batch_size, push = int(frames), int(batch_size), int(push)  # numpy's integers overflow
    ragged = batch_size > 1 if lengths is None else lengths
    shapes = Shapes(config, frames, batch_size, dtype, native, ragged)
    mode = "training" if training else "streaming" if streaming else "inference"
    moments = {
        "inference": lambda: memory.inference(shapes),
        "training": lambda: memory.training(shapes),
        "streaming": lambda: memory.streaming(shapes, push),
    }[mode]()
    peak = max(moments, key=lambda moment: moment.num_bytes)
    copies = 2 + OPTIMIZER_COPIES if training else 1
    operations = work(config, frames, batch_size)
    times = BACKWARD if training else 1
    waiting = lookahead(config.contexts)
    return Estimate(
        config=config,
        frames=frames,
        batch_size=batch_size,
        mode=mode,
        dtype=dtype,
        peak_bytes=peak.num_bytes,
        where=peak.where,
        by_part={name: size for name, size in peak.alive.items() if size},
        weight_bytes=copies * num_parameters(config) * shapes.item,
        input_bytes=batch_size * (min(push, frames) if streaming else frames) * config.input_dim * shapes.item,
        state_bytes=_bounded_state(shapes),
        flops=times * operations.flops,
        flops_by_part={name: times * flops for name, flops in operations.by_part.items()},
        hop_ms=hop_ms,
        latency_ms=None if waiting is None else waiting * hop_ms,
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
    """Return the largest number of frames per row that fits into `total_bytes` for the whole process, 0 if none does.

    `total_bytes` is a number or a size as "8GB"; the rest as in `estimate`.

    Examples:
        >>> max_frames(EncoderConfig(input_dim=80), "8GB") // 360_000  # hours
        3
    """
    _check(config, 0, batch_size, training, False, PUSH, dtype)
    total = parse_bytes(total_bytes, "total_bytes") if isinstance(total_bytes, str) else total_bytes

    def fits(frames: int) -> bool:
        return estimate(config, frames, batch_size, training, dtype=dtype, native=native).total_bytes <= total

    return max_that_fits(fits)


def max_that_fits(fits: Callable[[int], bool]) -> int:
    """Return the largest number up to 2**40 for which `fits` is true, given that all smaller ones fit; 0 if none."""
    low, high = 0, 1
    while high < MAX_FRAMES and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _bounded_state(shapes: Shapes) -> int | None:
    try:
        return memory.state_bytes(shapes)
    except ValueError:
        return None


def _seconds(shapes: Shapes, training: bool, push: int | None, machine: Machine) -> float:
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
        raise ConfigError(
            f"estimate takes an EncoderConfig, got {type(config).__name__}; of a model it is config.encoder."
        )
    if config.block not in ESTIMATED_BLOCKS:
        raise ConfigError(f'block="{config.block}" cannot be estimated; {", ".join(ESTIMATED_BLOCKS)} can.')
    for name, number, least in (("frames", frames, 0), ("batch_size", batch_size, 1), ("push", push, 1)):
        if not isinstance(number, Integral) or isinstance(number, bool) or not least <= number <= MAX_FRAMES:
            raise ConfigError(f"{name} must be a whole number from {least} to 2**40, got {number!r}.")
    if dtype not in BYTES:
        raise ConfigError(f"dtype must be one of {', '.join(BYTES)}, got {dtype!r}.")
    if training and streaming:
        raise ConfigError("a stream has no gradients: estimate training or streaming, not both.")
    if streaming and config.block in ATTENTION_BLOCKS:
        if any(context.right is None for context in config.layer_contexts):
            raise ConfigError("unlimited right context cannot stream: give every context a right, or a chunk.")
        if any(context.left is None for context in config.layer_contexts):
            raise ConfigError("unlimited left context has a state that grows without end: give every context a left.")

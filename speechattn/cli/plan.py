"""`speechattn plan`: how much audio fits into how much memory, and what it takes. No torch, no weights."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from speechattn.cli.options import positive
from speechattn.config import ACTIVATIONS, BLOCKS, POSITION_ENCODINGS, STACKS, EncoderConfig, ModelConfig
from speechattn.context import Context
from speechattn.errors import UserError
from speechattn.framing import HOP_MS
from speechattn.planning.estimate import MODES, PROCESS_BYTES, PUSH, Estimate, estimate, max_frames
from speechattn.planning.format import format_estimate
from speechattn.planning.machine_speed import Machine, load_machine, machine_path
from speechattn.planning.memory import BYTES
from speechattn.system.units import format_bytes, format_duration, parse_bytes

MAX_HOURS = 24 * 365.0
NUMBERS = ("d_model", "num_heads", "num_layers", "d_ff", "conv_kernel")
CHOICES = {"block": BLOCKS, "position_encoding": POSITION_ENCODINGS, "activation": ACTIVATIONS}


def add(commands: Any) -> None:
    """Its options; `commands` is what argparse calls subparsers."""
    command = commands.add_parser(
        "plan",
        help="how much audio fits into how much memory, and how long it takes",
        description="How much audio fits into --memory, or what --hours of it take: memory at the worst moment, "
        "operations, latency and, on a calibrated machine, time. Nothing is allocated.",
        epilog="speechattn plan --memory 8GB; speechattn plan --hours 4; speechattn plan --calibrate, once a machine.",
    )
    asked = command.add_argument_group("question")
    asked.add_argument("--memory", metavar="SIZE", help="of the whole process, as 8GB or 16GiB")
    asked.add_argument("--hours", type=_hours, metavar="H", help="of audio a row")
    asked.add_argument("--mode", choices=MODES, help="(default: all of them)")
    asked.add_argument(
        "--calibrate", action="store_true", help="time this machine for some seconds, and keep the result"
    )
    asked.add_argument("--threads", type=positive, default=1, metavar="N", help="of --calibrate (default 1)")
    asked.add_argument("--json", action="store_true", help="the plans as JSON")
    size = command.add_argument_group("encoder")
    size.add_argument("--model", type=Path, metavar="DIR", help="the encoder of a saved model")
    for name in NUMBERS:
        size.add_argument(f"--{name.replace('_', '-')}", type=positive, metavar="N", help=_default(name))
    size.add_argument("--num-mels", type=positive, metavar="N", help="features of a frame (default 80)")
    size.add_argument("--stack", type=int, choices=STACKS, help=_default("stack"))
    for name, choices in CHOICES.items():
        size.add_argument(f"--{name.replace('_', '-')}", choices=choices, help=_default(name))
    size.add_argument("--left", type=_side, metavar="N", help="frames before, or all (default 64)")
    size.add_argument("--right", type=_side, metavar="N", help="frames after, or all (default 64)")
    size.add_argument("--chunk", type=positive, metavar="N", help="frames that share a view (default 1)")
    size.add_argument("--batch-size", type=positive, default=1, metavar="N", help="rows (default 1)")
    size.add_argument("--push", type=positive, default=PUSH, metavar="N", help=f"frames at a time (default {PUSH})")
    size.add_argument("--dtype", choices=tuple(BYTES), default="float32", help="default float32")
    size.add_argument("--no-native", action="store_true", help="as without numba")


def run(options: argparse.Namespace) -> int:
    """Print what was asked."""
    config, hop_ms = _config(options)
    machine = _calibrated(options.threads) if options.calibrate else load_machine(machine_path())
    if options.memory is None and options.hours is None:
        if options.calibrate:
            return 0
        raise UserError(
            "what is to be planned? Give --memory 8GB for the longest audio, or --hours 4 for what it takes."
        )
    total = None if options.memory is None else parse_bytes(options.memory, "--memory")
    if options.hours is None:
        assert total is not None
        return _longest(options, config, hop_ms, total)
    frames = round(options.hours * 3600 * 1000 / hop_ms)
    return _hours_take(options, config, frames, hop_ms, total, machine)


def _longest(options: argparse.Namespace, config: EncoderConfig, hop_ms: float, total: int) -> int:
    """Print the longest audio of each mode in so much memory."""
    if total < PROCESS_BYTES:
        raise UserError(
            f"--memory {options.memory} is {format_bytes(total)}, and Python and torch alone take "
            f"{format_bytes(PROCESS_BYTES)}: give more, as 8GB."
        )
    again = replace(config, gradient_checkpointing=True)
    rows = {
        "inference": (config, False, "in one call"),
        "training": (config, True, "forward and backward, AdamW"),
        "training, checkpointed": (again, True, "layers computed again for the gradient"),
    }
    found: dict[str, Any] = {}
    lines = [f"{'':24}{'longest audio':>14}{'frames':>12}  "]
    for name, (changed, training, how) in rows.items():
        if options.mode not in (None, name.split(",")[0]):
            continue
        most = max_frames(
            changed, total, options.batch_size, training, dtype=options.dtype, native=not options.no_native
        )
        found[name] = most
        lines.append(f"{name:24}{format_duration(most * hop_ms / 1000):>14}{most:>12,}  {how}")
    if options.mode in (None, "streaming"):
        made = _planned(options, config, options.push, "streaming") if _streams(config) else None
        fits = made is not None and made.total_bytes <= total
        found["streaming"] = None if fits else 0
        lines.append(_streaming_line(options, made, fits))
    if options.json:
        print(json.dumps({"memory_bytes": total, "max_frames": found, "config": config.to_dict()}))
        return 0
    print(f"{format_bytes(total)}, {format_bytes(PROCESS_BYTES)} of them Python and torch; {_told(options, config)}")
    print("\n".join(lines))
    return 0


def _streaming_line(options: argparse.Namespace, made: Estimate | None, fits: bool) -> str:
    if made is None:
        return f"{'streaming':24}{'-':>14}{'':12}  an unlimited side does not stream in bounded memory"
    length = "any length" if fits else "none"
    held = f"pushes of {options.push} frames: {format_bytes(made.peak_bytes)} beside the weights"
    return f"{'streaming':24}{length:>14}{'':12}  {held}"


def _hours_take(
    options: argparse.Namespace,
    config: EncoderConfig,
    frames: int,
    hop_ms: float,
    total: int | None,
    machine: Machine | None,
) -> int:
    """Print what so many frames take in each mode."""
    if options.mode == "streaming" and not _streams(config):
        raise UserError("an unlimited side does not stream in bounded memory: give --left and --right numbers.")
    modes = [mode for mode in MODES if options.mode in (None, mode) and (mode != "streaming" or _streams(config))]
    plans = [_planned(options, config, frames, mode, hop_ms, machine) for mode in modes]
    if options.json:
        print(json.dumps([{**asdict(made), "total_bytes": made.total_bytes} for made in plans]))
        return 0
    print(f"{format_duration(plans[0].audio_s)} of audio, {frames:,} frames; {_told(options, config)}")
    for made in plans:
        print()
        print(format_estimate(made, total))
    if machine is not None:
        print(f"\nTime: calibrated on {_told_machine(machine)}.")
    else:
        print("\nTime: speechattn plan --calibrate measures this machine for some seconds, once.")
    return 0


def _planned(
    options: argparse.Namespace,
    config: EncoderConfig,
    frames: int,
    mode: str,
    hop_ms: float = HOP_MS,
    machine: Machine | None = None,
) -> Estimate:
    return estimate(
        config,
        frames,
        options.batch_size,
        mode == "training",
        streaming=mode == "streaming",
        push=options.push,
        dtype=options.dtype,
        native=not options.no_native,
        hop_ms=hop_ms,
        machine=machine,
    )


def _streams(config: EncoderConfig) -> bool:
    """Whether a stream keeps no more than so much."""
    return all(context.limited for context in config.contexts)


def _calibrated(threads: int) -> Machine:
    """A calibration of now, kept for later plans."""
    from speechattn.profiling.calibrate import calibrate

    machine, path = calibrate(threads=threads), machine_path()
    try:
        machine.save(path)
    except OSError as error:
        raise UserError(
            f"the calibration cannot be kept in {path} ({error.strerror}): set SPEECHATTN_CACHE."
        ) from error
    print(f"calibrated {_told_machine(machine)}; kept in {path}")
    return machine


def _config(options: argparse.Namespace) -> tuple[EncoderConfig, float]:
    """The encoder that the options name, and the length of its frames in ms."""
    names = [*NUMBERS, *CHOICES, "stack"]
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    sides = {name: getattr(options, name) for name in ("left", "right", "chunk") if getattr(options, name) is not None}
    if options.model is not None:
        if given or sides or options.num_mels:
            first = next(iter([*given, *sides, "num_mels"])).replace("_", "-")
            raise UserError(f"--model brings its own encoder: leave out --{first}.")
        saved = _saved(options.model)
        return saved.encoder, saved.framing.hop_ms
    left, right = (None if sides.get(name) == "all" else sides.get(name, 64) for name in ("left", "right"))
    context = Context(left, right, sides.get("chunk", 1))
    return EncoderConfig(options.num_mels or 80, context=context, **given), HOP_MS


def _saved(folder: Path) -> ModelConfig:
    """The config of a saved model; its weights are not looked at."""
    path = folder / "config.json"
    try:
        return ModelConfig.from_dict(json.loads(path.read_text(encoding="utf-8"))["model"])
    except OSError as error:
        raise UserError(f"--model {folder} is not a saved model: {path.name} {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a model's config: {error}.") from error


def _told_machine(machine: Machine) -> str:
    return f"{machine.name}, {machine.threads} thread{'s' * (machine.threads > 1)}"


def _told(options: argparse.Namespace, config: EncoderConfig) -> str:
    """The encoder in words."""
    contexts = dict.fromkeys(map(str, config.layer_contexts))
    rows = f"{options.batch_size} row{'s' if options.batch_size > 1 else ''} of {options.dtype}"
    return f"{config.num_layers} x {config.d_model} {config.block}, {' / '.join(contexts)}, {rows}"


def _default(name: str) -> str:
    value = getattr(EncoderConfig(80), name)
    return "default 4 * d_model" if value is None else f"default {value}"


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not HOP_MS / 3.6e6 <= hours <= MAX_HOURS:
        raise argparse.ArgumentTypeError(f"must be hours of audio, at most {MAX_HOURS:.0f} (a year), got {text!r}")
    return hours


def _side(text: str) -> int | str:
    if text == "all":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of frames, or all, got {text!r}")
    return int(text)

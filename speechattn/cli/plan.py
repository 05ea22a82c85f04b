"""`speechattn plan`: how much audio fits into how much memory, and what it takes. No torch, no weights."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from speechattn.cli.options import Parser, duration, frames_or_all, option_name, positive
from speechattn.config import ACTIVATIONS, BACKENDS, BLOCKS, POSITION_ENCODINGS, STACKS, EncoderConfig
from speechattn.context import Context
from speechattn.errors import UserError
from speechattn.framing import HOP_MS
from speechattn.model_config import ModelConfig
from speechattn.planning.estimate import MODES, PROCESS_BYTES, PUSH, Estimate, estimate, max_frames
from speechattn.planning.format import format_estimate
from speechattn.planning.machine_speed import Machine, load_machine, machine_path
from speechattn.planning.shapes import BYTES
from speechattn.system.serialization import parse_json
from speechattn.system.text_table import text_table
from speechattn.system.units import format_bytes, format_duration, parse_bytes

MIN_SECONDS, MAX_SECONDS = HOP_MS / 1000, 365 * 86400.0
NUMBERS = ("d_model", "num_heads", "num_layers", "d_ff", "conv_kernel")
CHOICES = {"block": BLOCKS, "position_encoding": POSITION_ENCODINGS, "activation": ACTIVATIONS, "backend": BACKENDS}


def main(argv: Sequence[str]) -> int:
    """Print the plan that the options `argv` ask for; return the exit status."""
    options = _parser().parse_args(argv)
    config, hop_ms = _config(options)
    machine = _calibrated(options.threads) if options.calibrate else load_machine(machine_path())
    if options.memory is None and options.duration is None:
        if options.calibrate:
            return 0
        raise UserError("nothing to plan: give --memory 8GB for the longest audio, or --duration 4h for its memory.")
    total = None if options.memory is None else parse_bytes(options.memory, "--memory")
    if options.duration is None:
        assert total is not None
        return _print_longest(options, config, hop_ms, total)
    frames = round(options.duration * 1000 / hop_ms)
    return _print_estimates(options, config, frames, hop_ms, total, machine)


def _parser() -> Parser:
    parser = Parser(
        "speechattn plan",
        description="How much audio fits into --memory, or what --duration of it takes: memory at the peak, "
        "operations, latency and, on a calibrated machine, time. Nothing is allocated.",
        epilog="speechattn plan --memory 8GB; speechattn plan --duration 4h; speechattn plan --calibrate, once.",
    )
    question = parser.add_argument_group("question")
    question.add_argument("--memory", metavar="SIZE", help="of the whole process, as 8GB or 16GiB")
    length = duration(MIN_SECONDS, MAX_SECONDS, f"from {MIN_SECONDS:g}s (a frame) to 365d")
    question.add_argument("--duration", type=length, metavar="TIME", help="of audio in each row, as 4h or 90min")
    question.add_argument("--mode", choices=MODES, help="(default: all of them)")
    question.add_argument("--calibrate", action="store_true", help="time this machine for some seconds, and save it")
    question.add_argument("--threads", type=positive, default=1, metavar="N", help="of --calibrate (default 1)")
    question.add_argument("--format", choices=("text", "json"), default="text", help="of the output (default text)")
    encoder = parser.add_argument_group("encoder")
    encoder.add_argument("--model", type=Path, metavar="DIR", help="the encoder of a saved model")
    for name in NUMBERS:
        encoder.add_argument(option_name(name), type=positive, metavar="N", help=_default(name))
    encoder.add_argument("--num-mels", type=positive, metavar="N", help="features of a frame (default 80)")
    encoder.add_argument("--stack", type=positive, choices=STACKS, help=_default("stack"))
    for name, choices in CHOICES.items():
        encoder.add_argument(option_name(name), choices=choices, help=_default(name))
    encoder.add_argument("--left", type=frames_or_all, metavar="N", help="frames before, or all (default 64)")
    encoder.add_argument("--right", type=frames_or_all, metavar="N", help="frames after, or all (default 64)")
    encoder.add_argument("--chunk", type=positive, metavar="N", help="frames that share one view (default 1)")
    encoder.add_argument("--batch-size", type=positive, default=1, metavar="N", help="rows (default 1)")
    encoder.add_argument(
        "--push", type=positive, default=PUSH, metavar="N", help=f"frames per step of a stream (default {PUSH})"
    )
    encoder.add_argument("--dtype", choices=tuple(BYTES), default="float32", help="default float32")
    encoder.add_argument("--no-native", action="store_true", help="plan for a machine without numba")
    return parser


def _print_longest(options: argparse.Namespace, config: EncoderConfig, hop_ms: float, total: int) -> int:
    """Print the longest audio of each mode in `total` bytes."""
    if total < PROCESS_BYTES:
        raise UserError(
            f"--memory {options.memory} is {format_bytes(total)}, and Python and torch alone take "
            f"{format_bytes(PROCESS_BYTES)}: give more, as 8GB."
        )
    checkpointed = replace(config, gradient_checkpointing=True)
    cases = {
        "inference": (config, False, "in one call"),
        "training": (config, True, "forward and backward, AdamW"),
        "training, checkpointed": (checkpointed, True, "layers computed again for the gradient"),
    }
    found: dict[str, int | None] = {}
    rows = [("", "longest audio", "frames", "")]
    for name, (changed, training, note) in cases.items():
        if options.mode in (None, name.split(",")[0]):
            longest = max_frames(
                changed, total, options.batch_size, training, dtype=options.dtype, native=not options.no_native
            )
            found[name] = longest
            rows.append((name, format_duration(longest * hop_ms / 1000), f"{longest:,}", note))
    if options.mode in (None, "streaming"):
        planned = _estimate(options, config, options.push, "streaming") if _has_bounded_stream(config) else None
        fits = planned is not None and planned.total_bytes <= total
        found["streaming"] = None if fits else 0
        rows.append(("streaming", *_streaming_cells(options, planned, fits)))
    if options.format == "json":
        print(json.dumps({"memory_bytes": total, "max_frames": found, "config": config.to_dict()}))
        return 0
    process = f"{format_bytes(PROCESS_BYTES)} of them Python and torch"
    print(f"{format_bytes(total)}, {process}; {_describe(options, config)}")
    print("\n".join(text_table(rows, "<>><")))
    return 0


def _streaming_cells(options: argparse.Namespace, planned: Estimate | None, fits: bool) -> tuple[str, str, str]:
    if planned is None:
        return "-", "", "an unlimited side does not stream in bounded memory"
    note = f"pushes of {options.push} frames: {format_bytes(planned.peak_bytes)} plus the weights"
    return "any length" if fits else "none", "", note


def _print_estimates(
    options: argparse.Namespace,
    config: EncoderConfig,
    frames: int,
    hop_ms: float,
    total: int | None,
    machine: Machine | None,
) -> int:
    """Print what `frames` frames take in each mode."""
    if options.mode == "streaming" and not _has_bounded_stream(config):
        raise UserError("an unlimited side does not stream in bounded memory: give --left and --right numbers.")
    modes = [
        mode for mode in MODES if options.mode in (None, mode) and (mode != "streaming" or _has_bounded_stream(config))
    ]
    estimates = [_estimate(options, config, frames, mode, hop_ms, machine) for mode in modes]
    if options.format == "json":
        print(json.dumps([{**asdict(each), "total_bytes": each.total_bytes} for each in estimates]))
        return 0
    print(f"{format_duration(estimates[0].audio_s)} of audio, {frames:,} frames; {_describe(options, config)}")
    for each in estimates:
        print(f"\n{format_estimate(each, total)}")
    if machine is not None:
        print(f"\nTime: calibrated on {_machine_name(machine)}.")
    else:
        print("\nTime: speechattn plan --calibrate measures this machine for some seconds, once.")
    return 0


def _estimate(
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


def _has_bounded_stream(config: EncoderConfig) -> bool:
    """Return whether the state of a stream has a largest size."""
    return all(context.limited for context in config.contexts)


def _calibrated(threads: int) -> Machine:
    """Return a calibration made now, and save it for later plans."""
    from speechattn.profiling.calibrate import calibrate

    machine, path = calibrate(threads=threads), machine_path()
    try:
        machine.save(path)
    except OSError as error:
        raise UserError(
            f"the calibration cannot be written to {path} ({error.strerror}): set SPEECHATTN_CACHE."
        ) from error
    print(f"calibrated {_machine_name(machine)}; saved in {path}")
    return machine


def _config(options: argparse.Namespace) -> tuple[EncoderConfig, float]:
    """Return the encoder that the options name, and the length of its frames in ms."""
    names = [*NUMBERS, *CHOICES, "stack"]
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    sides = {name: getattr(options, name) for name in ("left", "right", "chunk") if getattr(options, name) is not None}
    if options.model is not None:
        if given or sides or options.num_mels:
            first = next(iter([*given, *sides, "num_mels"]))
            raise UserError(f"--model brings its own encoder: leave out {option_name(first)}.")
        saved = _saved(options.model)
        return saved.encoder, saved.framing.hop_ms
    left, right = (None if sides.get(name) == "all" else sides.get(name, 64) for name in ("left", "right"))
    context = Context(left, right, sides.get("chunk", 1))
    return EncoderConfig(options.num_mels or 80, context=context, **given), HOP_MS


def _saved(folder: Path) -> ModelConfig:
    """Return the config of a saved model, without its weights."""
    path = folder / "config.json"
    try:
        return ModelConfig.from_dict(parse_json(path.read_text(encoding="utf-8"))["model"])
    except OSError as error:
        raise UserError(f"--model {folder} is not a saved model: {path.name} {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a model's config: {str(error).removesuffix('.')}.") from error


def _machine_name(machine: Machine) -> str:
    threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
    return f"{machine.name}, {threads}"


def _describe(options: argparse.Namespace, config: EncoderConfig) -> str:
    """Return the encoder and its rows as one line."""
    contexts = dict.fromkeys(map(str, config.layer_contexts))
    rows = f"{options.batch_size} row{'s' if options.batch_size > 1 else ''} of {options.dtype}"
    return f"{config.num_layers} x {config.d_model} {config.block}, {' / '.join(contexts)}, {rows}"


def _default(name: str) -> str:
    value = getattr(EncoderConfig(80), name)
    return "default 4 * d_model" if value is None else f"default {value}"

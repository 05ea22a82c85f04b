"""Export of a model's streaming step for other runtimes, as ONNX or torch.export; checked before it is written.

The graph is `StreamingStep`: a push in, its output out, and the state as explicit inputs and outputs of fixed shapes. A
`SpeechModel` takes samples, frontend included; an `Encoder` takes frames. A graph checks nothing: samples must be
finite, and counts correct. docs/export.md has the contract, examples/stream_onnx.py a program without torch and this
package.
"""

from __future__ import annotations

import copy
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechattn.dtypes import like, packed_entry
from speechattn.encoder.encoder import Encoder
from speechattn.errors import UserError
from speechattn.export.streaming_step import StreamingStep
from speechattn.models.speech_model import SpeechModel
from speechattn.system.atomic_files import write_bytes

FORMATS = ("onnx", "torch")
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Largest difference of a graph from eager, relative to the largest output, or to 1 if that is smaller."""
Caches = tuple[Tensor, ...]
Run = Callable[[Tensor, Tensor, Tensor, Caches], tuple[Tensor, Tensor, Tensor, Caches]]
"""A function that runs a graph: the arguments and results of `StreamingStep.forward`."""


def export(model: SpeechModel | Encoder, push_frames: int, path: str | Path, format: str = "onnx") -> float:
    """Write the streaming step of a model for pushes of `push_frames` frames, and return its difference from eager.

    The graph runs on noise, from before the first frame until after the last, and is compared with ``model.step`` and
    ``model.flush`` push by push; nothing is written unless they agree.

    Args:
        model: float32 for ONNX, float32 or float64 for torch; contexts with two limits.
        push_frames: frames of a push, a multiple of every chunk and of stack. The cost of a push grows with its frames
            times the frames that they see together: about a layer's window is efficient.
        path: the file, `.onnx` or `.pt2` by habit.
        format: "onnx" (needs ``pip install onnx onnxscript onnxruntime``), or "torch", which `torch.export.load` reads.

    Raises:
        UserError: the model is quantised, or has no step of fixed size, or not in this format, the extra is not
            installed, or the path lies in no folder.
        RuntimeError: the graph does not compute what eager computes.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}.")
    if not Path(path).parent.is_dir():
        raise UserError(f"{path} cannot be written: {Path(path).parent} is not a folder.")
    if (name := packed_entry(model)) is not None:
        raise UserError(
            f"a quantised model cannot be exported ({name} is no tensor): export the float model, and quantise the "
            "file, for ONNX with onnxruntime.quantization.quantize_dynamic."
        )
    try:
        model = copy.deepcopy(model).cpu().eval()
    except RuntimeError as error:
        raise UserError(
            "the model cannot be copied, as it holds tensors with a gradient that are no parameters, as pruned layers "
            "do: make them permanent, as torch.nn.utils.prune.remove(layer, 'weight') does."
        ) from error
    step = StreamingStep(model, push_frames)
    dtype = like(step.encoder).dtype
    if dtype not in TOLERANCE or (format == "onnx" and dtype != torch.float32):
        raise UserError(
            f"format={format!r} takes a {'float32' if format == 'onnx' else 'float32 or float64'} model, "
            f"this one is {dtype}: export model.float()."
        )
    if format == "onnx":
        onnxruntime = _onnxruntime()
    example = (noise(step, step.num_inputs), torch.tensor(step.num_inputs), *step.initial_state())
    with torch.no_grad(), _quiet():
        program = torch.export.export(step, example, strict=False)
        data = _as_onnx(program, example, step) if format == "onnx" else _as_archive(program)
    run = runner(onnxruntime.InferenceSession(data)) if format == "onnx" else program.module()
    worst = check(run, model, step)
    write_bytes(path, data)
    return worst


def streamed(run: Run, step: StreamingStep, input: Tensor) -> Iterator[Tensor]:
    """Yield the frames [1, m, D] of each push of an input [1, n, ...], until the last.

    This is how to call a graph.
    """
    counter, caches = step.initial_state()
    begin, size = 0, step.num_inputs
    while True:
        piece = input[:, begin : begin + size]
        valid, begin = piece.shape[1], begin + size
        push = torch.cat((piece, piece.new_zeros(1, size - valid, *piece.shape[2:])), 1)
        output, rows, counter, caches = run(push, torch.tensor(valid), counter, caches)
        first, stop = rows.tolist()
        yield output[:, first:stop]
        if valid < size and stop < output.shape[1]:
            return


def runner(session: Any) -> Run:
    """Return a function that runs the graph of an onnxruntime session."""
    names = [entry.name for entry in session.get_inputs()]

    def run(input: Tensor, valid: Tensor, counter: Tensor, caches: Caches) -> tuple[Tensor, Tensor, Tensor, Caches]:
        given = (x.numpy() for x in (input, valid, counter, *caches))
        output, rows, counter, *caches_after = map(
            torch.from_numpy, session.run(None, dict(zip(names, given, strict=True)))
        )
        return output, rows, counter, tuple(caches_after)

    return run


@torch.no_grad()
def check(run: Run, model: SpeechModel | Encoder, step: StreamingStep) -> float:
    """Return the largest difference between a graph and ``model.step``, over more pushes than a frame can see.

    Raises:
        RuntimeError: a push gives another number of frames, or the difference is larger than rounding.
    """
    size, config = step.num_inputs, step.encoder.config
    seen = sum(context.kept_frames or 0 for context in config.contexts)
    total = (seen // step.push_frames + 3) * size + size // 2
    if step.encoder.positions is not None:
        total = min(total, config.max_frames * config.stack * (size // step.push_frames))
    input = noise(step, total)
    eager: Any = model
    state, wanted = eager.initial_state(), []
    for begin in range(0, total - size + 1, size):
        output, state = eager.step(input[:, begin : begin + size], state)
        wanted.append(output)
    output, state = eager.step(input[:, len(wanted) * size :], state)
    rest = torch.cat((output, eager.flush(state)), 1)
    found = list(streamed(run, step, input))
    found, ending = found[: len(wanted)], torch.cat(found[len(wanted) :], 1)
    worst, largest = 0.0, 1.0
    for ours, theirs in zip([*found, ending], [*wanted, rest], strict=True):
        if ours.shape != theirs.shape:
            raise RuntimeError(f"the graph gave {ours.shape[1]} frames where model.step gave {theirs.shape[1]}.")
        if theirs.numel():
            difference = float((ours - theirs).abs().max())
            worst = difference if not difference <= worst else worst  # NaN stays
            largest = max(largest, float(theirs.abs().max()))
    if not worst <= TOLERANCE[input.dtype] * largest:
        raise RuntimeError(
            f"the graph differs from model.step by {worst:.1e}, where the largest output is {largest:.3g}."
        )
    return worst


def noise(step: StreamingStep, size: int) -> Tensor:
    """Return seeded samples [1, size], or frames [1, size, F]."""
    shape = (1, size) if step.frontend is not None else (1, size, step.encoder.config.input_dim)
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=like(step.encoder).dtype)


def about(step: StreamingStep) -> dict[str, str]:
    """Return the metadata of the file of a graph, for the program that runs it: numbers and JSON as text."""
    facts: dict[str, Any] = {"push": step.num_inputs, "outputs": step.num_outputs, "stack": step.encoder.config.stack}
    if isinstance(step.model, SpeechModel):
        config = step.model.config
        framing = config.framing
        facts |= {"sample_rate": framing.sample_rate, "hop": framing.hop, "first_center": framing.first_center}
        facts |= {"head": config.head, "classes": json.dumps(config.classes)}
    return {name: str(value) for name, value in facts.items()}


def _as_onnx(program: torch.export.ExportedProgram, example: tuple[Any, ...], step: StreamingStep) -> bytes:
    """Return the program as the bytes of an ONNX file."""
    kept = [f"cache_{i}" for i in range(len(example[3]))]
    exported = torch.onnx.export(
        program,
        example,
        input_names=["input", "valid", "counter", *kept],
        output_names=["output", "rows", "next_counter", *(f"next_{name}" for name in kept)],
        dynamo=True,
        verbose=False,
    )
    assert exported is not None
    exported.model.metadata_props.update(about(step))
    data: bytes = exported.model_proto.SerializeToString()
    return data


def _as_archive(program: torch.export.ExportedProgram) -> bytes:
    """Return the program as the bytes of a torch.export file."""
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings of torch's exporters about their own code and about unrelated packages."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _onnxruntime() -> Any:
    try:
        for name in ("onnx", "onnxscript"):
            importlib.import_module(name)
        return importlib.import_module("onnxruntime")
    except ImportError as error:
        raise UserError(
            f'format="onnx" needs other packages ({error}): pip install onnx onnxscript onnxruntime. '
            'format="torch" needs nothing.'
        ) from error

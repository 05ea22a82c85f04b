"""`speechattn profile --trace`: one pass of one encoder in its own process, as tables and files.

`operations.csv` and `tensors.csv` have all rows, of which the terminal shows the largest; `trace.json` is for
ui.perfetto.dev or chrome://tracing; `memory.png` is the memory over time.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from speechattn.errors import UserError
from speechattn.profiling.encoders import ProfiledEncoder
from speechattn.profiling.isolated import CannotRunError, in_fresh_process
from speechattn.profiling.measure import WARM_FRAMES
from speechattn.profiling.runner import PRELOAD, SHARE, describe_machine
from speechattn.profiling.settings import Settings
from speechattn.profiling.trace.module_marks import OUTSIDE, block_of, part_of
from speechattn.profiling.trace.trace import LiveTensor, Operation, Trace, trace
from speechattn.system.atomic_files import write_bytes
from speechattn.system.process_memory import available_bytes
from speechattn.system.text_table import text_table
from speechattn.system.units import format_bytes, format_duration

OPERATIONS, TENSORS, CHROME, FIGURE = "operations.csv", "tensors.csv", "trace.json", "memory.png"
ALL = "all"
MAX_LAYERS, MAX_OPERATIONS, MAX_PARTS = 14, 8, 3
"""Rows and columns that a terminal has room for."""


def run_trace(settings: Settings, encoders: Sequence[str], lengths_s: Sequence[float], out: Path | None) -> int:
    """Trace a pass, write its files into `out` and print the largest costs.

    Raises:
        UserError: more than one encoder or length, no `out` or one that cannot be written, no GPU, or the pass cannot
            be run, as when it needs more memory than settings.memory_bytes.
    """
    if len(encoders) != 1 or len(lengths_s) != 1 or out is None:
        raise UserError(
            "--trace is of one encoder and one length, and needs a folder: "
            "speechattn profile --trace --encoders truncated --duration 60s --out runs/trace"
        )
    encoder, audio_s = encoders[0], lengths_s[0]
    describe_machine(settings.device)
    try:
        out.mkdir(parents=True, exist_ok=True)
        found = _apart(settings, encoder, audio_s, out)
        write_bytes(out / OPERATIONS, _csv(Operation._fields, found.operations))
        write_bytes(out / TENSORS, _csv(LiveTensor._fields, found.largest))
        _draw(found, out / FIGURE, f"{encoder} over {format_duration(audio_s)}: {settings.mode}")
    except OSError as error:
        raise UserError(f"Cannot write to {out} ({error.strerror}): choose another --out.") from error
    print(format_trace(found, settings, encoder, audio_s))
    print(f"\n{out / FIGURE}, {OPERATIONS}, {TENSORS}; {CHROME} opens in ui.perfetto.dev")
    return 0


def _apart(settings: Settings, encoder: str, audio_s: float, out: Path) -> Trace:
    ceiling = settings.memory_bytes
    if ceiling is None and (free := available_bytes()) is not None:
        ceiling = round(SHARE * free)
    try:
        found: Trace = in_fresh_process(
            trace_pass,
            settings,
            encoder,
            settings.frames(audio_s),
            out / CHROME,
            # Timed passes, the counted one, which takes longer, and writing.
            seconds=settings.timeout_s * (settings.rounds + 3),
            max_bytes=ceiling if settings.device == "cpu" else None,
            threads=settings.threads,
            preload=(*PRELOAD, __name__),
        )
    except CannotRunError as error:
        raise UserError(f"{encoder} over {format_duration(audio_s)} cannot be traced: {error}.") from error
    return found


def trace_pass(settings: Settings, encoder: str, frames: int, chrome: Path) -> Trace:
    """Return the trace of a pass over `frames` frames; called in its own process."""
    profiled = ProfiledEncoder(settings, encoder)
    profiled.prepare(WARM_FRAMES)[0]()
    run, known = profiled.prepare(frames)
    return trace(run, profiled.model, known, chrome, settings.rounds)


def format_trace(found: Trace, settings: Settings, encoder: str, audio_s: float) -> str:
    """Return the costliest layers, operators and tensors as text."""
    where = "the GPU" if settings.device == "cuda" else f"the CPU, threads: {settings.threads}"
    peak, known = format_bytes(found.peak_bytes), format_bytes(found.known_bytes)
    head = (
        f"{encoder} over {format_duration(audio_s)}, {settings.mode} on {where}: {found.passed_ms:,.1f} ms under the "
        f"profiler,\n{peak} of tensors at the peak, and {known} that were there before (weights, gradients, input)."
    )
    tables = (_layers(found), _operations(found), _tensors(found))
    return "\n\n".join([head, *("\n".join(text_table(rows, align)) for rows, align in tables)])


def _layers(found: Trace) -> tuple[list[list[str]], str]:
    """Return milliseconds by block and part, and bytes at the peak, of the costliest blocks in their order."""
    by_part: dict[str, float] = defaultdict(float)
    cells: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in found.operations:
        part, block = part_of(row.layer), block_of(row.layer)
        by_part[part if block != part else ""] += row.self_ms
        for name, amount in ((part, row.self_ms), ("ms", row.self_ms), ("bytes", row.peak_bytes)):
            cells[block][name] += amount
            cells[ALL][name] += amount
        cells[block]["backward"] += row.self_ms * row.backward
        cells[ALL]["backward"] += row.self_ms * row.backward
    by_part.pop("", None)
    parts = sorted(by_part, key=lambda part: -by_part[part])[:MAX_PARTS]
    cost = sorted(cells, key=lambda block: (-cells[block]["ms"], -cells[block]["bytes"]))[: MAX_LAYERS + 1]
    shown = [
        block
        for block in (*dict.fromkeys(map(block_of, found.layers)), OUTSIDE, ALL)
        if block in cost and (_counts(cells, block, "ms") or _counts(cells, block, "bytes"))
    ]
    columns = [*parts, "backward", "ms"] if cells[ALL]["backward"] else [*parts, "ms"]
    head = ["layer", *(f"{name} ms" for name in columns[:-1]), "ms", "%", "at the peak"]
    rows = [
        [
            block,
            *(f"{cells[block][name]:,.1f}" for name in columns),
            _percent(cells[block]["ms"], found.passed_ms),
            format_bytes(cells[block]["bytes"]),
        ]
        for block in shown
    ]
    return [head, *rows], "<>"


def _counts(cells: Mapping[str, Mapping[str, float]], block: str, name: str) -> bool:
    """Return whether a block has more than a thousandth of the whole."""
    return cells[block][name] > 0.001 * cells[ALL][name]


def _operations(found: Trace) -> tuple[list[list[str]], str]:
    """Return the operators with most self time, over all layers."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0, 0])
    for row in found.operations:
        amounts = (row.calls, row.self_ms, row.made_bytes, row.peak_bytes)
        sums[row.operation] = [before + more for before, more in zip(sums[row.operation], amounts, strict=True)]
    most = sorted(sums, key=lambda name: -sums[name][1])[:MAX_OPERATIONS]
    rows = [
        [name, f"{calls:,.0f}", f"{own:,.1f}", _percent(own, found.passed_ms), format_bytes(made), format_bytes(peak)]
        for name, (calls, own, made, peak) in ((name, sums[name]) for name in most)
    ]
    return [["operation", "calls", "own ms", "%", "tensors made", "at the peak"], *rows], "<>"


def _tensors(found: Trace) -> tuple[list[list[str]], str]:
    """Return the largest tensors at the peak."""
    head = ["alive at the peak", "shape", "dtype", "layer", "operation", "line", ""]
    rows = [
        [
            format_bytes(tensor.bytes),
            "x".join(map(str, tensor.shape)),
            tensor.dtype,
            tensor.layer,
            tensor.operation,
            tensor.line,
            "kept for backward" if tensor.kept else "backward" if tensor.backward else "",
        ]
        for tensor in found.largest
    ]
    return [head, *rows], "><"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return CSV with shapes as 1x100x64 and times rounded to a microsecond."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        cells = ("x".join(map(str, cell)) if isinstance(cell, tuple) else cell for cell in row)
        writer.writerow([round(cell, 3) if isinstance(cell, float) else cell for cell in cells])
    return text.getvalue().encode()


def _draw(found: Trace, path: Path, title: str) -> None:
    from speechattn.plots.memory_timeline import memory_alive
    from speechattn.plots.style import DPI

    note = f"tensors made in the pass; {format_bytes(found.known_bytes)} of weights, gradients and input are not drawn"
    buffer = io.BytesIO()
    figure = memory_alive(*found.curve, title, note)
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())

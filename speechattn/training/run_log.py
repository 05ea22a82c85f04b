"""metrics.jsonl: one line per record, and the same numbers in TensorBoard where it is installed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from speechattn.errors import UserError
from speechattn.system.atomic_files import to_json, write_bytes
from speechattn.system.serialization import parse_json
from speechattn.training.tasks.task import Scores


class RunLog:
    """Writer of `<directory>/metrics.jsonl`; a context manager, which closes the files of TensorBoard at the end."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "metrics.jsonl"
        self._tensorboard = _summary_writer(directory / "tensorboard")

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()

    def rewind(self, encoder: str, step: int) -> None:
        """Remove the records of `encoder` past `step`, because those steps are about to be repeated."""
        if not self.path.exists():
            return
        # The validation at this step is repeated as well: it follows the step, and may not have been reached.
        kept = [
            record
            for record in read_metrics(self.path)
            if record["encoder"] != encoder or record["step"] < step + (record["kind"] == "train")
        ]
        write_bytes(self.path, "".join(to_json(record) + "\n" for record in kept).encode())

    def train(self, encoder: str, step: int, epoch: int, loss: float, accuracy: float, frames_per_s: float) -> None:
        """Record the means over the training steps since the last record."""
        self._write("train", encoder, step, epoch, loss=loss, accuracy=accuracy, frames_per_s=frames_per_s)

    def valid(self, encoder: str, step: int, epoch: int, loss: float, scores: Scores) -> None:
        """Record one validation."""
        self._write("valid", encoder, step, epoch, loss=loss, **scores.curve())

    def records(self) -> list[dict[str, Any]]:
        """Return every whole record so far."""
        return read_metrics(self.path) if self.path.exists() else []

    def _write(self, kind: str, encoder: str, step: int, epoch: int, **values: float) -> None:
        record = {"kind": kind, "encoder": encoder, "step": step, "epoch": epoch, **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(to_json(record) + "\n")
        if self._tensorboard is not None:
            for name, value in values.items():
                self._tensorboard.add_scalar(f"{encoder}/{kind}/{name}", value, step)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Return the records of a `metrics.jsonl`, in the order they were written.

    A last line that a kill or a full disk has cut is dropped. Broken lines before it (a run that was killed while it
    wrote a line, and resumed) are dropped with one warning that counts them.

    Raises:
        UserError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no metrics at {path}: expected the metrics.jsonl that training writes into its directory.")
    # Bytes, and errors="replace": a line cut inside a character must not make the rest unreadable.
    lines = [line for line in path.read_bytes().decode("utf-8", errors="replace").split("\n") if line.strip()]
    records = [_record(line) for line in lines]
    broken = sum(record is None for record in records[:-1])
    if broken:
        warnings.warn(f"{path}: {broken} of {len(lines)} lines are not records and were dropped.", stacklevel=2)
    return [record for record in records if record is not None]


def _record(line: str) -> dict[str, Any] | None:
    """Return one line of JSON as a dict, None if it is cut or something else."""
    try:
        record = parse_json(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _summary_writer(directory: Path) -> Any:
    """Return a SummaryWriter, None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    try:
        return SummaryWriter(str(directory))
    except UnicodeError:  # a path that is not UTF-8, which TensorBoard cannot write to
        return None

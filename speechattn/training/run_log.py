"""metrics.jsonl: one line per record, and the same numbers in TensorBoard where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechattn.system.atomic_files import to_json, write_bytes
from speechattn.training.metrics import FrameScores, read_metrics


class RunLog:
    """Appends records to `<directory>/metrics.jsonl`; a context manager, which closes the board's file at the end."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "metrics.jsonl"
        self._board = _tensorboard(directory / "tensorboard")

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._board is not None:
            self._board.close()

    def rewind(self, encoder: str, step: int) -> None:
        """Forget what `encoder` recorded past `step`: those steps are about to be taken again."""
        if not self.path.exists():
            return
        # A validation at this very step is repeated as well: it follows the step, and may not have been reached.
        kept = [
            record
            for record in read_metrics(self.path)
            if record["encoder"] != encoder or record["step"] < step + (record["kind"] == "train")
        ]
        write_bytes(self.path, "".join(to_json(record) + "\n" for record in kept).encode())

    def train(self, encoder: str, step: int, epoch: int, loss: float, accuracy: float, frames_per_s: float) -> None:
        """Record the means over the training steps since the last record."""
        self._write("train", encoder, step, epoch, loss=loss, accuracy=accuracy, frames_per_s=frames_per_s)

    def valid(self, encoder: str, step: int, epoch: int, loss: float, scores: FrameScores) -> None:
        """Record one validation."""
        values = {"accuracy": scores.accuracy, "accuracy_no_sil": scores.accuracy_no_sil}
        self._write("valid", encoder, step, epoch, loss=loss, **values)

    def records(self) -> list[dict[str, Any]]:
        """Every whole record so far."""
        return read_metrics(self.path) if self.path.exists() else []

    def _write(self, kind: str, encoder: str, step: int, epoch: int, **values: float) -> None:
        record = {"kind": kind, "encoder": encoder, "step": step, "epoch": epoch, **values}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(to_json(record) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{encoder}/{kind}/{name}", value, step)


def _tensorboard(directory: Path) -> Any:
    """A SummaryWriter, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    try:
        return SummaryWriter(str(directory))
    except UnicodeError:  # a path that is not UTF-8, which TensorBoard cannot write to
        return None

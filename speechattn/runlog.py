"""metrics.jsonl: one line per record, and the same numbers in TensorBoard where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from speechattn.files import write_bytes
from speechattn.metrics import FrameScores, read_metrics


class RunLog:
    """Appends records to `<directory>/metrics.jsonl`."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "metrics.jsonl"
        self._board = _tensorboard(directory / "tensorboard")

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
        write_bytes(self.path, "".join(json.dumps(record) + "\n" for record in kept).encode())

    def train(self, encoder: str, step: int, epoch: int, loss: float, accuracy: float, frames_per_s: float) -> None:
        """Record one training step."""
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
            file.write(json.dumps(record) + "\n")
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{encoder}/{kind}/{name}", value, step)


def _tensorboard(directory: Path) -> Any:
    """A SummaryWriter, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(directory))

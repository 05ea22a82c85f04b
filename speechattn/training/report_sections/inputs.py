"""What the sections of a task are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from speechattn.models.speech_model import SpeechModel
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import Example
from speechattn.training.tasks.task import Task


@dataclass(frozen=True)
class ReportInputs:
    """A run that has ended: settings, model, validation examples and numbers."""

    config: TrainConfig
    model: SpeechModel
    """The run's own model, in evaluation mode, on the CPU."""
    task: Task
    valid: Sequence[Example]
    """Validation examples; each is read when it is asked for."""
    results: Sequence[Mapping[str, Any]]
    """The rows of results.json, the run's own encoder first."""
    records: Sequence[Mapping[str, Any]]
    """The records of metrics.jsonl, as `run_log.read_metrics` returns them."""

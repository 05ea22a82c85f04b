"""How fast a machine is, in the five rates that explain an encoder's time, and where a calibration is kept."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from speechattn.planning.flops import Work

FORMAT = 1


@dataclass(frozen=True)
class Rates:
    """Seconds for one of each unit of `Work`."""

    products: float
    attended: float
    queries: float
    numbers: float
    taps: float

    def seconds(self, work: Work) -> float:
        """For all of it."""
        return (
            self.products * sum(work.products.values())
            + self.attended * work.attended
            + self.queries * work.queries
            + self.numbers * work.numbers
            + self.taps * work.taps
        )


@dataclass(frozen=True)
class Machine:
    """A calibrated machine: rates without gradients, rates of forward and backward together, and a step's own time."""

    name: str
    threads: int
    inference: Rates
    training: Rates
    step_s: float
    """What one layer of one push of a stream takes beside its work."""

    def save(self, path: Path) -> None:
        """As JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n")


def load_machine(path: Path) -> Machine | None:
    """What `Machine.save` wrote, or None if it is not there, of another version, or damaged."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format") != FORMAT:
            return None
        inference, training = (Rates(**data.pop(mode)) for mode in ("inference", "training"))
        machine = Machine(**data, inference=inference, training=training)
        numbers = (machine.step_s, *asdict(inference).values(), *asdict(training).values())
        return machine if all(0 <= number < math.inf for number in numbers) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def machine_path() -> Path:
    """Where this machine's calibration is kept."""
    folder = os.environ.get("SPEECHATTN_CACHE")
    return (Path(folder) if folder else Path.home() / ".cache" / "speechattn") / "machine.json"

"""Speed of a machine in five rates, and the file of its calibration."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from speechattn.planning.flops import Work
from speechattn.system.serialization import parse_json

FORMAT = 1


@dataclass(frozen=True)
class Rates:
    """Seconds per unit of `Work`."""

    products: float
    attended: float
    queries: float
    numbers: float
    taps: float

    def seconds(self, work: Work) -> float:
        """Return the seconds of `work`."""
        return (
            self.products * sum(work.products.values())
            + self.attended * work.attended
            + self.queries * work.queries
            + self.numbers * work.numbers
            + self.taps * work.taps
        )


@dataclass(frozen=True)
class Machine:
    """A calibrated machine: rates of inference, of forward and backward together, and the constant time of a step."""

    name: str
    threads: int
    inference: Rates
    training: Rates
    step_s: float
    """Constant seconds per layer and step of a stream."""

    def save(self, path: Path) -> None:
        """Write the machine as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n")


def load_machine(path: Path) -> Machine | None:
    """Return what `Machine.save` wrote, or None if it is missing, of another version, or damaged."""
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
        if data.pop("format") != FORMAT:
            return None
        inference, training = (Rates(**data.pop(mode)) for mode in ("inference", "training"))
        machine = Machine(**data, inference=inference, training=training)
        numbers = (machine.step_s, *asdict(inference).values(), *asdict(training).values())
        return machine if all(0 <= number < math.inf for number in numbers) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def machine_path() -> Path:
    """Return the path of this machine's calibration."""
    folder = os.environ.get("SPEECHATTN_CACHE")
    return (Path(folder) if folder else Path.home() / ".cache" / "speechattn") / "machine.json"

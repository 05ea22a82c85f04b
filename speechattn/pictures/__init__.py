"""Pictures of speech, labels and attention. Each function takes arrays and returns a matplotlib Figure.

Figures are made without pyplot: nothing global changes, nothing opens a window, and a Figure that is
dropped is freed. Save one with `figure.savefig("name.png", dpi=pictures.DPI)`.
"""

from speechattn.pictures.agreement import disagreements
from speechattn.pictures.arrivals import arrivals
from speechattn.pictures.attention import attention_heads, mass_outside
from speechattn.pictures.context import receptive_field
from speechattn.pictures.learning import curves, has_curves
from speechattn.pictures.palette import DPI
from speechattn.pictures.posterior import posteriors
from speechattn.pictures.scores import confusion, encoder_bars, per_class_bars
from speechattn.pictures.strips import phone_strips

__all__ = [
    "DPI",
    "arrivals",
    "attention_heads",
    "confusion",
    "curves",
    "disagreements",
    "encoder_bars",
    "has_curves",
    "mass_outside",
    "per_class_bars",
    "phone_strips",
    "posteriors",
    "receptive_field",
]

"""The common style of all figures: colours of phone families and lines, fonts, titles and legends.

Fills are Paul Tol's "light" scheme and lines his "bright" one (personal.sron.nl/~pault): colour-blind readers can
distinguish both, and black text is readable on every fill. Heat maps are matplotlib's magma: bright is high in all of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from speechattn.data.labels.families import family
from speechattn.framing import Framing

DPI = 110
"""Dots per inch of every PNG: a 13-inch picture is 1430 pixels wide."""
INK, GREY, PALE = "#1f2430", "#6b7280", "#e5e7eb"
ALARM = "#c2185b"
"""Colour of errors: darker than every fill for colour-blind readers too, and used for no family."""
OUTLINE = "#66ccee"
"""Colour of outlines over a heat map."""
HEAT = "magma"
LINES = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#66ccee", "#ccbb44", "#777777")
MAX_CLASSES = 48
"""Classes that a figure has room for: all phones, and the most frequent of many words."""


FAMILIES: dict[str, str] = {
    "silence": "#dddddd",
    "vowel": "#ee8866",
    "diphthong": "#eedd88",
    "approximant": "#bbcc33",
    "nasal": "#44bb99",
    "fricative": "#77aadd",
    "affricate": "#99ddff",
    "stop": "#ffaabb",
    "other": "#b3c6dd",
}
"""Fill colour of each family of phones, in the order of `data.labels.families`. They mean families and nothing else."""

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": GREY,
    "axes.edgecolor": "#9ca3af",
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": PALE,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.usetex": False,
    "text.parse_math": False,
}
"""Settings of matplotlib while a figure is built: each public function has `matplotlib.rc_context(STYLE)`."""


def fill(phone: str) -> str:
    """Return the fill colour of the family of a phone."""
    return FAMILIES[family(phone)]


def by_family(classes: Sequence[str]) -> list[int]:
    """Return the indices of `classes` sorted by family, in the order of `FAMILIES`; the sort is stable."""
    order = list(FAMILIES)
    return sorted(range(len(classes)), key=lambda index: order.index(family(classes[index])))


def most_frequent(count: ArrayLike) -> tuple[list[int], str]:
    """Return the indices of at most MAX_CLASSES classes with the highest `count` [C], in order, and a note or ""."""
    counts = as_array(count, "C")
    kept = sorted(np.argsort(-counts, kind="stable")[:MAX_CLASSES].tolist())
    left_out = f"{MAX_CLASSES} of {len(counts)} classes" if len(kept) < len(counts) else ""
    return kept, left_out


def new_figure(width: float, height: float) -> Figure:
    """Return an empty Figure, its size in inches, with constrained layout and without a window."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def as_array(values: ArrayLike, axes: str) -> NDArray[np.float64]:
    """Return `values` (array, nested lists, or tensor on any device, with gradient or without) as float64.

    Raises:
        ValueError: the number of axes is not that of `axes`, for example "T, C".
    """
    detach = getattr(values, "detach", None)
    array = np.asarray(values if detach is None else detach().cpu().double(), dtype=np.float64)
    if array.ndim != len(axes.split(",")):
        raise ValueError(f"expected an array [{axes}], got shape {list(array.shape)}.")
    return array


def frame_edges(framing: Framing, num_frames: int) -> NDArray[np.float64]:
    """Seconds [T+1] between which each frame is drawn: half a hop to both sides of its window's centre."""
    return np.array(framing.drawn_edges(num_frames))


def phone_ticks(axis: Axis, phones: Sequence[str], size: float = 7.5) -> None:
    """Set one tick per phone at 0, 1, 2, ..., each label on a patch in the colour of its family."""
    axis.set_ticks(range(len(phones)), list(phones))
    axis.set_tick_params(length=0, pad=4, labelsize=size, labelcolor=INK)
    for label, phone in zip(axis.get_ticklabels(), phones, strict=True):
        label.set_bbox({"facecolor": fill(phone), "edgecolor": "none", "boxstyle": "round,pad=0.18"})


def family_legend(figure: Figure, phones: Sequence[str], extra: Sequence[Patch] = ()) -> None:
    """Draw a legend under the figure with the families that occur among `phones`, and `extra` patches.

    If all labels are words, there is no legend of families.
    """
    present = {family(phone) for phone in phones}
    if present <= {"silence", "other"}:
        present = set()
    patches = [Patch(facecolor=colour, label=name) for name, colour in FAMILIES.items() if name in present]
    handles = [*patches, *extra]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9, handlelength=1.1)


def heading(figure: Figure, title: str, note: str = "", alarm: bool = False) -> None:
    """Write a bold title at the top left and a grey line under it; `alarm` sets the line in the colour of errors."""
    height = figure.get_figheight()
    colour, weight = (ALARM, "bold") if alarm else (GREY, "normal")
    figure.text(0.008, 1 - 0.1 / height, title, va="top", fontsize=12.5, fontweight="bold")
    figure.text(0.008, 1 - 0.35 / height, note, va="top", fontsize=10, color=colour, fontweight=weight)
    # In inches, so that the two lines take the same room in figures of any height.
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - (0.62 if note else 0.4) / height))


def say_empty(axes: Axes, message: str) -> None:
    """Write in the middle of empty axes why they are empty."""
    axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set(xticks=[], yticks=[])

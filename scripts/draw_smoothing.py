"""Draw one sentence's labels before and after smoothing: docs/pictures/smoothing.png.

    python scripts/draw_smoothing.py RECORDING --alignments FOLDER/SUBSET

FOLDER/SUBSET.phones.ctm and .words.ctm hold the reference of RECORDING, by the name of its file. Red bars mark segments
that last one frame.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

import speechattn as sa
from speechattn.data.labels.classes import PHONES, phone_class
from speechattn.data.labels.ctm import read_ctm
from speechattn.data.labels.segments import SILENCE, Segment
from speechattn.plots.alignment import WIDTH, draw_lane, draw_mel, mel_range
from speechattn.plots.style import ALARM, DPI, GREY, INK, STYLE, family_legend, frame_edges, heading, new_figure
from speechattn.streaming.recording import label_recording

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "smoothing.png"
LANES = ("each frame", "smoothed", "reference")


def main() -> None:
    """Draw the picture."""
    options = parse()
    model = sa.load(options.model) if options.model else sa.load_pretrained("small-en-phones")
    waveform, _ = sa.load_audio(options.recording, model.config.framing.sample_rate)
    frames = model.frontend(waveform[None])[0][0]
    id = options.recording.stem
    words = [word for word in read_ctm(f"{options.alignments}.words.ctm")[id] if not word.label.startswith("<")]
    reference = [
        Segment(each.start_s, each.stop_s, phone_class(each.label, PHONES))
        for each in read_ctm(f"{options.alignments}.phones.ctm")[id]
    ]
    raw, smoothed = (
        list(label_recording(model, options.recording, smoothing).segments)
        for smoothing in (None, sa.Smoothing(options.change_cost))
    )
    figure = draw(model, frames, words, (raw, smoothed, reference), id)
    figure.savefig(options.out, dpi=DPI)
    print(options.out)


@matplotlib.rc_context(STYLE)
def draw(
    model: sa.SpeechModel, frames: torch.Tensor, words: Sequence[Segment], lanes: Sequence[Sequence[Segment]], id: str
) -> Figure:
    """Return the figure: words, log-mel, and a lane of phones each for raw labels, smoothed labels and reference."""
    framing = model.config.framing
    mel, edges = frames.double().numpy(), frame_edges(framing, len(frames))
    window = (0.0, float(edges[-1]))
    figure = new_figure(WIDTH, 4.9)
    top, middle, below = figure.subplots(3, 1, height_ratios=[0.22, 1.7, 1.5])
    for word in words:
        top.text((word.start_s + word.stop_s) / 2, 0.4, word.label, ha="center", va="center", fontsize=9.5, color=INK)
    for edge in {word.start_s for word in words} | {word.stop_s for word in words}:
        top.plot([edge, edge], [0, 0.9], color=GREY, linewidth=0.9)
    top.set(ylim=(0, 1), xticks=[], yticks=[])
    top.spines[:].set_visible(False)
    draw_mel(middle, mel, edges, window, mel_range(mel), framing, model.config.flavor)
    hop_s = framing.hop_ms / 1000
    for bottom, segments in zip((2.5, 1.15, -0.2), lanes, strict=True):
        draw_lane(below, segments, window, bottom)
        for segment in one_frame(segments, hop_s):
            draw_bar(below, segment, bottom)
    below.set(ylim=(-0.5, 3.55), yticks=[3.0, 1.65, 0.3], yticklabels=LANES, xlabel="seconds")
    below.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
    below.tick_params(axis="x", length=2, labelsize=8)
    below.spines[:].set_visible(False)
    for axes in (top, middle, below):
        axes.set_xlim(*window)
    speaker = id.partition("-")[0]
    heading(figure, f"{' '.join(word.label for word in words)} (speaker {speaker})", note(lanes, hop_s))
    labels = [segment.label for segments in lanes for segment in segments]
    family_legend(figure, labels, [Patch(facecolor=ALARM, label="lasts one frame")])
    return figure


def draw_bar(axes: Axes, segment: Segment, bottom: float) -> None:
    """Draw a red bar under a segment, twice as wide: a frame is a few pixels."""
    middle, width = (segment.start_s + segment.stop_s) / 2, 2 * segment.duration
    axes.add_patch(Rectangle((middle - width / 2, bottom - 0.22), width, 0.16, facecolor=ALARM, edgecolor="none"))


def one_frame(segments: Sequence[Segment], hop_s: float) -> list[Segment]:
    """Return the segments that last one frame."""
    return [segment for segment in segments if segment.duration < 1.5 * hop_s]


def note(lanes: Sequence[Sequence[Segment]], hop_s: float) -> str:
    """Return how many phones each lane has, and of the first two how many last one frame."""
    counts = [sum(segment.label != SILENCE for segment in segments) for segments in lanes]
    short = [len(one_frame(segments, hop_s)) for segments in lanes]
    return (
        f"the most probable phone of each frame gives {counts[0]} phones ({short[0]} segments of one frame), "
        f"smoothing {counts[1]} ({short[1]}), the reference has {counts[2]}"
    )


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--alignments", required=True, help="path of the tables without .phones.ctm")
    parser.add_argument("--model", help="a saved frame classifier; else the shipped one")
    parser.add_argument("--change-cost", type=float, default=sa.Smoothing().change_cost, dest="change_cost")
    parser.add_argument("--out", type=Path, default=PICTURE)
    return parser.parse_args()


if __name__ == "__main__":
    main()

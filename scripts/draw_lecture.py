r"""Draw the pictures of docs/lecture.md, from a recording or from the voice of espeak-ng.

    python scripts/draw_lecture.py
    python scripts/draw_lecture.py a.flac
    python scripts/draw_lecture.py DIR/LibriSpeech/test-clean/1089/134691/1089-134691-0001.flac \
        --alignments DIR/alignments

The recording may have any length, pictures show its first seconds. Phones come from `--alignments`, a folder with
<subset>.phones.ctm and <subset>.words.ctm for a recording in LibriSpeech layout; without it from the pretrained model.
Numbers of trained encoders are not here: scripts/train_lecture.py prints them.
"""

from __future__ import annotations

import argparse
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from lecture_recording import FRAMING, RATE, Recording, read, synthetic
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

import speechattn as sa
from speechattn.attention.positions import alibi, rotary, sinusoidal
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.plots.alignment import draw_lane, draw_mel, mel_range
from speechattn.plots.attention_weights import attention_heads
from speechattn.plots.context_band import draw_band
from speechattn.plots.context_figure import receptive_field
from speechattn.plots.style import DPI, GREY, INK, LINES, STYLE, family_legend, frame_edges, heading, new_figure

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
MAX_BYTES = 150_000
"""A larger PNG gets a palette, which makes it a third as large and its colours coarser."""
HEADS_SHOWN = (0, 1, 2, 3, 7)
"""Heads of layer 2 that look at different distances."""


def main() -> None:
    """Draw every picture."""
    parser = argparse.ArgumentParser(description="Draw the pictures of docs/lecture.md.")
    parser.add_argument("audio", type=Path, nargs="?", metavar="FILE", help="a recording, instead of espeak-ng's voice")
    parser.add_argument("--alignments", type=Path, metavar="DIR", help="a folder with <subset>.phones.ctm")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="where the pictures go")
    options = parser.parse_args()
    torch.manual_seed(0)
    try:
        pictures = draw(synthetic() if options.audio is None else read(options.audio, options.alignments))
    except sa.UserError as error:
        parser.error(str(error))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures.items():
        save(figure, options.out / f"lecture_{name}.png")


@torch.no_grad()
def draw(recording: Recording) -> dict[str, Figure]:
    """Return every picture by its name."""
    model = sa.load_pretrained("small-en-phones")
    encoder = model.config.encoder
    (window,) = set(encoder.layer_contexts)
    return {
        "frames": draw_frames(recording),
        "twins": draw_twins(recording),
        "heads": draw_heads(recording, model),
        "positions": draw_positions(model),
        "cost": draw_cost(),
        "masks": draw_masks(),
        "receptive_field": receptive_field(
            encoder.contexts,
            names=encoder.context_names,
            title=f"The pretrained model: {encoder.splice.left} neighbours at the input, then {window.left} frames "
            f"back and {window.right} ahead in {encoder.num_layers} layers",
        ),
    }


def save(figure: Figure, path: Path) -> None:
    """Write a PNG in as many colours as fit into MAX_BYTES, and print its size."""
    whole = BytesIO()
    figure.savefig(whole, format="png", dpi=DPI)
    image = Image.open(whole).convert("RGB")
    image.save(path, optimize=True)
    if path.stat().st_size > MAX_BYTES:
        image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}  {image.width} x {image.height}, {path.stat().st_size / 1000:.0f} KB")


@matplotlib.rc_context(STYLE)
def draw_frames(recording: Recording) -> Figure:
    """Draw how frames are cut from a waveform, and the log-mel frames of the sentence over its words and phones."""
    figure = new_figure(13.0, 6.3)
    has_words = bool(recording.words)
    grid = figure.subplots(3 + has_words, 1, height_ratios=[1.15, 1.6, *[0.22] * has_words, 0.22])
    draw_windows(grid[0], recording)
    mel, edges = recording.frames.numpy(), frame_edges(FRAMING, len(recording.frames))
    window = (0.0, float(edges[-1]))
    draw_mel(grid[1], mel, edges, window, mel_range(mel), FRAMING, "kaldi")
    for axes, segments in zip(grid[2:], (recording.words, recording.phones)[1 - has_words :], strict=True):
        draw_lane(axes, segments, window, 0.0)
        axes.set(ylim=(0, 1), yticks=[])
        axes.spines[:].set_visible(False)
        axes.tick_params(labelbottom=False, length=0)
    for axes in grid[1:]:
        axes.set_xlim(window)
    grid[-1].tick_params(labelbottom=True, length=2, labelsize=8)
    grid[-1].set_xlabel("seconds")
    count, dims = recording.frames.shape
    note = f"{window[1]:.1f} s are {count} vectors of {dims} numbers: one column for each 25 ms window, one every 10 ms"
    heading(figure, recording.name, note)
    family_legend(figure, [phone.label for phone in recording.phones])
    return figure


def draw_windows(axes: Axes, recording: Recording) -> None:
    """Draw 120 ms of the waveform where it is loudest, under the windows of its frames."""
    hop, width = FRAMING.hop, FRAMING.window
    middle = int(recording.frames.mean(1).argmax())
    first = max(0, middle - 5)
    start = FRAMING.span_samples(first)[0]
    shown = np.arange(max(start, 0), min(start + 12 * hop, len(recording.waveform)))
    samples = recording.waveform.numpy()[shown]
    scale = float(np.abs(samples).max()) or 1.0
    axes.plot(shown / RATE, samples / scale, color=INK, linewidth=0.8)
    for row, frame in enumerate(range(first, first + 10)):
        begin, end = FRAMING.span_samples(frame)
        bottom = 1.25 + 0.42 * (row % 3)
        axes.add_patch(
            Rectangle((begin / RATE, bottom), width / RATE, 0.36, color=(LINES[0], LINES[2], LINES[3])[row % 3])
        )
        label = axes.text((begin + end) / 2 / RATE, bottom + 0.16, f"frame {frame}", ha="center", va="center")
        label.set(fontsize=8, color="white", clip_on=True)
    axes.set(xlim=(shown[0] / RATE, (shown[-1] + 1) / RATE), ylim=(-1.1, 2.6), yticks=[])
    axes.tick_params(labelsize=8, length=2)
    axes.spines["left"].set_visible(False)
    axes.set_title(
        "120 ms of the waveform; each bar is the 25 ms that one frame is computed from",
        fontsize=9.5,
        fontweight="normal",
        pad=4,
    )


@matplotlib.rc_context(STYLE)
def draw_twins(recording: Recording) -> Figure:
    """Draw two frames that are nearly the same vector and belong to different phones, and what surrounds each."""
    pair, labels = twins(recording)
    figure = new_figure(13.0, 3.6)
    whole = figure.add_gridspec(1, 2, width_ratios=[2, 0.9])
    grid: Any = whole[0].subgridspec(2, 2, height_ratios=[1.6, 0.22]).subplots()
    vectors = figure.add_subplot(whole[1])
    mel, edges = recording.frames.numpy(), frame_edges(FRAMING, len(recording.frames))
    around = 0.25
    for column, (frame, label) in enumerate(zip(pair, labels, strict=True)):
        centre = float(edges[frame] + edges[frame + 1]) / 2
        window = (centre - around, centre + around)
        above, lane = grid[:, column]
        draw_mel(above, mel, edges, window, mel_range(mel), FRAMING, "kaldi")
        above.add_patch(
            Rectangle((edges[frame], -0.5), edges[1] - edges[0], 40, fill=False, edgecolor="white", linewidth=1.6)
        )
        above.set_title(f"frame {frame}, {label}", fontsize=10, fontweight="normal", color=INK, pad=4)
        draw_lane(lane, recording.phones, window, 0.0)
        for text in lane.texts:  # a label at the edge of a narrow picture does not fit
            text.set_visible(abs(text.get_position()[0] - centre) < around - 0.015)
        lane.set(ylim=(0, 1), yticks=[])
        lane.spines[:].set_visible(False)
        lane.tick_params(labelsize=8, length=2)
        lane.set_xlabel("seconds", fontsize=9)
        for axes in (above, lane):
            axes.set_xlim(window)
        vectors.plot(mel[frame], color=LINES[column], linewidth=2, label=f"frame {frame}, {label}")
    vectors.set_title("the two vectors", fontsize=10, fontweight="normal", color=INK, pad=4)
    vectors.set(xlabel="mel bin", ylabel="log energy", ylim=(None, float(mel[list(pair)].max()) + 2.5))
    vectors.tick_params(labelsize=8)
    vectors.legend(fontsize=9, loc="upper right")
    note = (
        "the two most similar loud frames of different phones: a layer that sees one frame can hardly tell them apart"
    )
    heading(figure, "Nearly the same vector in two contexts", note)
    return figure


def twins(recording: Recording) -> tuple[tuple[int, int], tuple[str, str]]:
    """Return the two most similar loud frames of different phones, and their phones."""
    classes = sa.load_pretrained("small-en-phones").config.classes
    labels = frame_labels(recording.phones, len(recording.waveform), FRAMING, classes)
    frames = recording.frames
    loud = frames.mean(1) > frames.mean(1).median()
    inside = torch.zeros(len(labels), dtype=torch.bool)  # frames in the middle of their phone, where labels are certain
    inside[2:-2] = (labels[2:-2] == labels[:-4]) & (labels[2:-2] == labels[4:])
    usable = ((labels > 0) & loud & inside).nonzero()[:, 0]
    distances = torch.cdist(frames[usable], frames[usable])
    distances[labels[usable][:, None] == labels[usable]] = torch.inf
    if not distances.isfinite().any():
        raise sa.UserError("the recording has fewer than two clear phones: use some seconds of speech.")
    best = int(distances.argmin())
    first, second = (int(usable[i]) for i in sorted((best // len(usable), best % len(usable))))
    return (first, second), (classes[labels[first]], classes[labels[second]])


def draw_heads(recording: Recording, model: sa.SpeechModel) -> Figure:
    """Draw what some heads of the second layer of the pretrained model attend to."""
    found: list[Tensor] = []

    def keep(layer: sa.SelfAttention, inputs: tuple[Tensor, ...]) -> None:
        q, k, _ = layer.project(inputs[0])
        bias = layer.bias(layer.context, q.shape[2])
        found.append(sa.attention_weights(q, k, layer.context, relative_bias=bias)[0])

    layer = [module for module in model.encoder.modules() if isinstance(module, sa.SelfAttention)][1]
    hook = layer.register_forward_pre_hook(keep)
    model(recording.waveform[None])
    hook.remove()
    figure = attention_heads(
        found[0][list(HEADS_SHOWN)],
        layer.context,
        recording.frames,
        FRAMING,
        recording.phones,
        title="What five of the eight heads of layer 2 of the pretrained model attend to",
    )
    for axes in figure.axes:  # heads are numbered as they are given
        if axes.get_title(loc="left") == f"head {len(HEADS_SHOWN)}":
            axes.set_title(f"head {HEADS_SHOWN[-1] + 1}", fontsize=9, fontweight="normal", pad=2.5, loc="left")
    return figure


@matplotlib.rc_context(STYLE)
def draw_positions(model: sa.SpeechModel) -> Figure:
    """Draw what four position encodings say about the distance of a key from its query."""
    figure = new_figure(13.0, 3.7)
    panels = figure.subplots(1, 4)
    far = torch.arange(-60, 61)
    added = sinusoidal(torch.arange(121), 128, torch.float64)
    panels[0].plot(far, added @ added[60], color=LINES[0], linewidth=2)
    same = torch.ones(1, 1, 121, 32, dtype=torch.float64)
    turned = rotary(same, torch.arange(121))[0, 0]
    panels[1].plot(far, turned @ turned[60] / 32**0.5, color=LINES[0], linewidth=2)
    for head, slope in enumerate(alibi(4, range(-60, 61))):
        panels[2].plot(far, slope, color=LINES[head], linewidth=2, label=f"head {head + 1}")
    layer = next(module for module in model.encoder.modules() if isinstance(module, sa.SelfAttention))
    bias = layer.bias(layer.context, 200)
    assert bias is not None
    for head, row in enumerate(bias[:5]):
        panels[3].plot(list(layer.context.offsets()), row, color=LINES[head], linewidth=2, label=f"head {head + 1}")
    titles = (
        "sinusoidal: product of two positions",
        "rotary: score of equal q and k",
        "ALiBi: bias",
        "relative: learned bias, layer 1",
    )
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=10, fontweight="normal", color=INK, pad=6)
        axes.axvline(0, color=GREY, linewidth=0.7, linestyle=(0, (3, 3)))
        axes.set_xlabel("key minus query, frames", fontsize=9)
        axes.tick_params(labelsize=8, length=2)
        axes.grid(axis="y")
    for axes in panels[2:]:
        axes.legend(fontsize=8, loc="lower center", ncols=2)
    panels[3].set_ylim(-58, None)
    note = "by how far the key lies before (left) or after (right) the query"
    heading(figure, "What a position encoding adds to a score", note)
    return figure


@matplotlib.rc_context(STYLE)
def draw_cost() -> Figure:
    """Draw the bytes of the scores of one head over the length of the audio."""
    figure = new_figure(7.6, 4.4)
    axes = figure.subplots()
    seconds = np.geomspace(1, 3600, 60)
    frames = np.round(seconds * FRAMING.frames_per_second).astype(int)
    kinds = (
        ("full: every frame sees every frame", sa.Context.full(), LINES[1], 1e9, "GB"),
        ("truncated: 64 frames to each side", sa.Context.truncated(64, 64), LINES[0], 1e6, "MB"),
    )
    for name, context, colour, size, unit in kinds:
        num_bytes = [4 * context.num_pairs(int(count)) for count in frames]
        axes.loglog(seconds, num_bytes, color=colour, linewidth=2.5, label=name)
        axes.annotate(
            f"1 h: {num_bytes[-1] / size:.0f} {unit}",
            (seconds[-1], num_bytes[-1]),
            (-6, 0),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=9.5,
            color=INK,
        )
    axes.set_xticks([1, 10, 60, 600, 3600], ["1 s", "10 s", "1 min", "10 min", "1 h"])
    axes.set_yticks(
        [1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12],
        ["100 KB", "1 MB", "10 MB", "100 MB", "1 GB", "10 GB", "100 GB", "1 TB"],
    )
    axes.minorticks_off()
    axes.set(xlabel="length of the audio", ylabel="scores of one head, float32")
    axes.grid()
    axes.legend(fontsize=9.5, loc="upper left")
    heading(figure, "What T x T costs", "a frame every 10 ms")
    return figure


@matplotlib.rc_context(STYLE)
def draw_masks() -> Figure:
    """Draw which keys each query sees, for four contexts."""
    figure = new_figure(13.0, 4.35)
    kinds = {
        "full": sa.Context.full(),
        "causal": sa.Context.causal(),
        "truncated": sa.Context.truncated(4, 2),
        "chunked": sa.Context.chunked(4, left=4),
    }
    for axes, (name, context) in zip(figure.subplots(1, 4), kinds.items(), strict=True):
        draw_band(axes, context, name)
    heading(
        figure,
        "Which frames may be seen: four contexts",
        "a row is a query, a column a key; one query, or one chunk of queries, is in full colour",
    )
    return figure


if __name__ == "__main__":
    main()

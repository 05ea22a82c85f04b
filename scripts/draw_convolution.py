"""Draw how attention computes a convolution, and print how exactly, for docs/convolution_is_local_attention.md.

    python scripts/draw_convolution.py
    python scripts/draw_convolution.py --audio a.flac
    python scripts/draw_convolution.py --model runs/librispeech/model --audio a.flac b.flac c.flac

The kernel is that of delta features, the slope of five frames, on log-mel frames of a sentence that espeak-ng says, or
of --audio. With --model it draws nothing, and prints how much of each attention layer of that model is a convolution:
the share of the variance of its output that the layer's mean convolution explains, on the second half of the files,
when the mean is over the first half. Not here: speed; a convolution is faster than its twin.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import soxr
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

import speechattn as sa
from speechattn.data.labels.segments import Segment
from speechattn.encoder.convolution_as_attention import attention_from_convolution, convolution_from_attention
from speechattn.plots.alignment import draw_lane
from speechattn.plots.style import DPI, GREY, HEAT, INK, LINES, PALE, STYLE, family_legend, heading, new_figure

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
SENTENCE = "A convolution is local attention."
RATE = sa.Framing().sample_rate
MOST_S = 4.0
SLOPES = "RdBu_r"


def main() -> None:
    """Draw the pictures and print the tables of the page on convolution."""
    parser = argparse.ArgumentParser(description="Draw how attention computes a convolution.")
    parser.add_argument(
        "--audio", type=Path, nargs="+", default=[], metavar="FILE", help="instead of espeak-ng's voice"
    )
    parser.add_argument("--model", type=Path, metavar="DIR", help="a saved model whose attention layers to look at")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR", help="where the pictures go")
    options = parser.parse_args()
    if options.model and len(options.audio) < 2:
        parser.error("--model needs two or more --audio files: to find the convolutions on, and to try them on.")
    if options.model:
        print_shares(options.model, options.audio)
        return
    torch.manual_seed(0)
    options.out.mkdir(parents=True, exist_ok=True)
    waveform, phones = (sa.load_audio(options.audio[0])[0], []) if options.audio else say()
    frames, _ = sa.LogMel(num_mels=40)(waveform[None, : round(MOST_S * RATE)])
    with torch.no_grad():
        draw_heads(frames.double(), phones).savefig(options.out / "convolution_heads.png", dpi=DPI)
        draw_sharpness(frames.double()).savefig(options.out / "convolution_sharpness.png", dpi=DPI)
        print_differences(frames)


def say() -> tuple[Tensor, list[Segment]]:
    """Return SENTENCE as espeak-ng reads it, [N] at 16 kHz, and its phones."""
    from speechattn.data.synthetic.espeak import Engine  # an extra, which --audio does without

    spoken = Engine().speak(SENTENCE, "en-us+f3", rate=140, pitch=50, pitch_range=60, word_gap=0)
    rate = spoken.sample_rate
    hum = 0.001 * np.random.default_rng(0).normal(size=len(spoken.waveform))  # without it, silence has no logarithm
    phones = [Segment(phone.start / rate, phone.stop / rate, phone.label) for phone in spoken.phones]
    end = max(phone.stop_s for phone in phones if phone.label != "SIL") + 0.15
    waveform = soxr.resample((spoken.waveform + hum)[: round(end * rate)], rate, RATE)
    return torch.tensor(waveform, dtype=torch.float32), phones


def deltas(num_features: int, dtype: torch.dtype) -> nn.Conv1d:
    """Return the convolution that fits a slope to five frames, per feature; the ends are repeated."""
    kernel = {"kernel_size": 5, "padding": 2, "padding_mode": "replicate", "groups": num_features, "bias": False}
    conv = nn.Conv1d(num_features, num_features, **kernel, dtype=dtype)
    conv.weight.copy_(torch.tensor([-0.2, -0.1, 0.0, 0.1, 0.2]).expand_as(conv.weight))
    return conv


@matplotlib.rc_context(STYLE)
def draw_heads(frames: Tensor, phones: list[Segment]) -> Figure:
    """Draw frames [1, T, F], through a strip for each head and the tap it is multiplied with, to both outputs."""
    conv = deltas(frames.shape[2], frames.dtype)
    same = attention_from_convolution(conv)
    layer, context, seconds = same.attention, same.attention.context, frames.shape[1] / sa.Framing().frames_per_second
    q, k, _ = layer.project(same.widen(frames))
    weights = sa.attention_weights(q, k, context, relative_bias=layer.bias(context, frames.shape[1]))[0]
    taps, offsets = conv.weight[0, 0].tolist(), np.array(context.offsets())
    expected, output = conv(frames.mT)[0].mT, same(frames)[0]

    figure = new_figure(13.0, 8.6)
    ratios = [1.3, 0.22, *[0.42] * len(taps), 1.3, 1.3, 0.6]
    grid = figure.subplots(len(ratios), 2, height_ratios=ratios, width_ratios=[1, 0.13])
    bands = (0.0, seconds, -0.5, frames.shape[2] - 0.5)
    show(grid[0, 0], frames[0], bands, HEAT, tuple(np.percentile(frames, [2, 99.8])), "log-mel frames")
    draw_lane(grid[1, 0], phones, (0.0, seconds), 0.0)
    grid[1, 0].set(xlim=(0, seconds), ylim=(0, 1))
    keys = np.arange(frames.shape[1])[:, None] + offsets
    seen = (keys >= 0) & (keys < frames.shape[1])
    distances = (0.0, seconds, offsets[0] - 0.5, offsets[-1] + 0.5)
    for head, (strip, bar) in enumerate(grid[2:-3]):
        show(strip, np.where(seen, weights[head], np.nan), distances, HEAT, (0, 1), "")
        strip.set_yticks([offsets[0], 0, offsets[-1]])
        strip.set_ylabel(f"head {head + 1}", rotation=0, ha="right", va="center", fontsize=9, color=INK)
        bar.barh([0], [taps[head]], height=0.6, color=LINES[0])
        bar.axvline(0, color=GREY, linewidth=0.8)
        bar.text(0.42, 0, f"{taps[head]:+.1f}" if taps[head] else "0  ", ha="right", va="center", fontsize=9.5)
        bar.set(xlim=(-0.22, 0.44), ylim=(-0.6, 0.6))
    grid[2, 0].set_title("key minus query, frames", fontsize=9.5, fontweight="normal", pad=4)
    grid[2, 1].set_title("times its tap", fontsize=9.5, fontweight="normal", pad=4)
    size = float(expected.abs().quantile(0.995))
    largest = float((output - expected).abs().max())
    show(grid[-3, 0], expected, bands, SLOPES, (-size, size), "slopes by torch.nn.Conv1d")
    show(grid[-2, 0], output, bands, SLOPES, (-size, size), "slopes by SelfAttention")
    show(grid[-1, 0], output - expected, bands, SLOPES, (-size, size), f"their difference: at most {largest:.2g}")
    grid[-1, 0].tick_params(labelbottom=True)
    grid[-1, 0].set_xlabel("seconds", fontsize=9)
    for axes in (grid[1, 0], *grid[:, 1]):
        axes.axis("off")
    if phones:
        family_legend(figure, [phone.label for phone in phones])
    note = "five heads, each shifts the frames by the distance of one tap; the output projection is the kernel"
    heading(figure, "A convolution is local attention", note)
    return figure


def show(
    axes: Axes,
    values: Tensor | np.ndarray,
    extent: tuple[float, float, float, float],
    colours: str,
    span: tuple[float, float],
    title: str,
) -> None:
    """Draw values [T, rows] over seconds; NaN is left pale."""
    cmap = matplotlib.colormaps[colours].with_extremes(bad=PALE)
    given = {"cmap": cmap, "vmin": span[0], "vmax": span[1], "extent": extent, "origin": "lower"}
    axes.imshow(np.asarray(values).T, aspect="auto", interpolation="nearest", **given)
    axes.set_title(title, fontsize=9.5, fontweight="normal", pad=4)
    axes.set_yticks([])
    axes.tick_params(labelbottom=False, labelsize=8, length=2)
    axes.spines[:].set_visible(False)


@matplotlib.rc_context(STYLE)
def draw_sharpness(frames: Tensor) -> Figure:
    """Draw the largest difference to the convolution over the sharpness of the bias, in both precisions."""
    figure = new_figure(7.2, 3.8)
    axes = figure.subplots()
    nats = np.arange(1.0, 48.0)
    for dtype, colour in ((torch.float64, LINES[0]), (torch.float32, LINES[1])):
        conv, given = deltas(frames.shape[2], dtype), frames.to(dtype)
        soft = (attention_from_convolution(conv, sharpness=sharpness)(given) for sharpness in nats)
        errors = [float((output - conv(given.mT).mT).abs().max()) for output in soft]
        axes.semilogy(nats, errors, color=colour, linewidth=2, label=str(dtype).removeprefix("torch."))
    axes.semilogy(nats, 3 * np.exp(-nats), color=GREY, linewidth=1, linestyle=(0, (3, 3)), label="3 exp(-sharpness)")
    axes.set(xlabel="sharpness of the bias, nats per frame", ylabel="largest difference", ylim=(1e-17, 10))
    axes.set_xlim(nats[0], nats[-1])
    axes.grid(axis="y")
    axes.legend(fontsize=9)
    heading(figure, "A theorem about a limit that floating point reaches", "slopes by attention, against convolution")
    return figure


def print_differences(frames: Tensor) -> None:
    """Print the largest difference for several random kernels, as a share of the largest output."""
    kinds = {
        "3 taps": {"kernel_size": 3, "padding": 1},
        "5 taps, causal": {"kernel_size": 5, "padding": 4},
        "8 taps": {"kernel_size": 8, "padding": 4},
        "5 taps, every third frame": {"kernel_size": 5, "padding": 6, "dilation": 3},
        "15 taps, depthwise": {"kernel_size": 15, "padding": 7, "groups": 40},
        "5 taps, ends repeated": {"kernel_size": 5, "padding": 2, "padding_mode": "replicate"},
    }
    print(f"{'kernel, 40 -> 40 features':26} {'layer':>19}  {'float64':>8}  {'float32':>8}")
    for name, kind in kinds.items():
        conv, errors = nn.Conv1d(40, 40, **kind), []
        for dtype in (torch.float64, torch.float32):
            conv, given = conv.to(dtype), frames.to(dtype)
            same, expected = attention_from_convolution(conv), conv(given.mT).mT[:, : given.shape[1]]
            errors.append(float((same(given) - expected).abs().max() / expected.abs().max()))
        layer = f"{same.attention.num_heads} heads, {same.attention.output.in_features} wide"
        print(f"{name:26} {layer:>19}  {errors[0]:8.1e}  {errors[1]:8.1e}")


@torch.no_grad()
def print_shares(directory: Path, files: list[Path]) -> None:
    """Print how much of each attention layer is a convolution, on files that it was not averaged over."""
    model = sa.load(directory)
    inputs: dict[sa.SelfAttention, list[Tensor]] = {}
    for layer in model.encoder.modules():
        if isinstance(layer, sa.SelfAttention):
            layer.register_forward_pre_hook(lambda layer, given: inputs.setdefault(layer, []).append(given[0]))
    for file in files:
        model(sa.load_audio(file)[0][None, : round(MOST_S * RATE)])
    print("layer  context              a convolution explains")
    for number, (layer, given) in enumerate(inputs.items(), start=1):
        first, rest = given[: len(files) // 2], given[len(files) // 2 :]
        padded = nn.utils.rnn.pad_sequence([frames[0] for frames in first], batch_first=True)
        conv = convolution_from_attention(layer, padded, torch.tensor([frames.shape[1] for frames in first]))
        missed = total = 0.0
        for frames in rest:
            explained = conv(frames.mT)[0].mT
            attended = layer(frames)[0, layer.context.left :][: len(explained)]
            missed += float((attended - explained).square().sum())
            total += float((attended - attended.mean(0)).square().sum())
        print(f"{number:5}  {layer.context!s:19}  {1 - missed / total:.0%}")


if __name__ == "__main__":
    main()

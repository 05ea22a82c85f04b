"""The attention of a model's layers in one example, and its section in the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from speechattn.analysis.outside_window import mass_outside
from speechattn.attention.functional import attention, attention_weights
from speechattn.context import Context
from speechattn.encoder.self_attention import SelfAttention
from speechattn.models.speech_model import SpeechModel
from speechattn.plots.attention_weights import attention_heads
from speechattn.plots.disagreement import Labelled
from speechattn.plots.html_page import Report
from speechattn.training.dataset import Example

ATTENTION_S = 3.0
"""Seconds of an example whose attention is drawn; in longer ones a frame would be less than a pixel wide."""

CAPTION = (
    "A strip is a head. A horizontal line is a head that attends at a fixed distance, like a tap of a convolution; a "
    "falling line is a head that keeps attending to one moment."
)


class LayerAttention(NamedTuple):
    """The attention of one layer in the first ATTENTION_S seconds of an example.

    `weights` is [H, T, window] as `attention_weights` returns it, `outside` the result of `mass_outside`.
    """

    context: Context
    weights: ArrayLike
    outside: float


def add_attention(
    report: Report, model: SpeechModel, example: Example, reference: Sequence[Labelled], seen: str
) -> None:
    """Add the attention of the first and the last layer in the beginning of an example; nothing without such layers.

    `reference` are the segments drawn under the log-mel, `seen` says in titles what is shown.
    """
    framing = model.config.framing
    frames = example.frames[: round(ATTENTION_S * framing.frames_per_second)]
    layers = layer_attention(model, frames)
    if not layers:
        return
    report.heading("Attention").text(_outside(layers))
    log_mel = model.frontend.to_log_mel(frames)
    for number in sorted({1, len(layers)}):
        context, weights, outside = layers[number - 1]
        title = f"Layer {number} of {len(layers)}: {seen}"
        picture = attention_heads(
            weights, context, log_mel, framing, reference, title, outside or None, model.config.flavor
        )
        report.figure(f"attention-{number}", picture, CAPTION if number == 1 else _last_layer(len(layers)))


def _outside(layers: Sequence[LayerAttention]) -> str:
    """Return a sentence about the weight outside of the windows, which must be 0."""
    most = max(layer.outside if math.isfinite(layer.outside) else math.inf for layer in layers)
    if most == 0:
        return f"No weight of the {len(layers)} layers lies outside of its window."
    return f"ERROR: a share of {most:.2g} of the weights lies outside of the windows; it must be 0."


def _last_layer(num_layers: int) -> str:
    """Return the caption of the last layer, which says which layers are not drawn."""
    joined = "and" if num_layers == 4 else "to"
    several = f" Layers 2 {joined} {num_layers - 1} are not drawn."
    hidden = {2: "", 3: " Layer 2 is not drawn."}.get(num_layers, several)
    return f"The last layer sees most: its inputs have already looked around.{hidden}"


@torch.no_grad()
def layer_attention(model: SpeechModel, frames: Tensor) -> list[LayerAttention]:
    """Return the weights of each attention layer of `model` for frames [T, F], the layer next to the input first.

    The mass outside the window is measured with an identity matrix as values: the output is then the [H, T, T] weights
    that the layer uses, whatever the backend.
    """
    found: list[LayerAttention] = []

    def read(layer: SelfAttention, inputs: tuple[Tensor, ...]) -> None:
        q, k, _ = layer.project(inputs[0])
        identity = torch.eye(q.shape[2], dtype=q.dtype, device=q.device).expand(*q.shape[:3], q.shape[2])
        context, bias = layer.context, layer.bias(layer.context, q.shape[2])
        used = attention(q, k, identity, context, activation=layer.activation, relative_bias=bias)
        weights = attention_weights(q, k, context, activation=layer.activation, relative_bias=bias)
        found.append(LayerAttention(context, weights[0], mass_outside(used[0], context)))

    layers = [module for module in model.encoder.modules() if isinstance(module, SelfAttention)]
    hooks = [layer.register_forward_pre_hook(read) for layer in layers]
    try:
        model.classify(frames[None])
    finally:
        for hook in hooks:
            hook.remove()
    return found

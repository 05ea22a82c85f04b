"""The attention layers of an encoder during one pass: what enters them, their weights, and another context for each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from speechattn.analysis.outside_window import mass_outside
from speechattn.attention.functional import attention, attention_weights
from speechattn.context import Context
from speechattn.encoder.self_attention import SelfAttention
from speechattn.models.speech_model import SpeechModel

_FORWARD = inspect.signature(SelfAttention.forward)


class LayerAttention(NamedTuple):
    """The attention of one layer over some seconds.

    `weights` is [H, T, window] as `attention_weights` returns it, `outside` the result of `mass_outside`.
    """

    context: Context
    weights: ArrayLike
    outside: float


def attention_layers(encoder: nn.Module) -> list[SelfAttention]:
    """Return the attention layers of an encoder in their order, next to the input first; of a baseline none."""
    return [module for module in encoder.modules() if isinstance(module, SelfAttention)]


@contextmanager
def layer_inputs(layers: Sequence[SelfAttention]) -> Iterator[list[tuple[SelfAttention, Tensor]]]:
    """Collect (layer, what enters it [B, T, D]) in the order of the calls, while entered.

    Examples:
        >>> layer = SelfAttention(8, 2, Context.truncated(4, 2))
        >>> with layer_inputs([layer]) as inputs:
        ...     hidden = layer(torch.zeros(1, 10, 8))
        >>> [list(input.shape) for _, input in inputs]
        [[1, 10, 8]]
    """
    found: list[tuple[SelfAttention, Tensor]] = []

    def read(layer: SelfAttention, inputs: tuple[Tensor, ...]) -> None:
        found.append((layer, inputs[0]))

    hooks = [layer.register_forward_pre_hook(read) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def layer_contexts(layers: Sequence[SelfAttention], contexts: Sequence[Context]) -> Iterator[None]:
    """Give each layer another context for the calls inside; the weights stay, as they do not depend on it.

    `Encoder.forward` takes one context for all layers; here each layer has its own.
    """
    hooks = [
        layer.register_forward_pre_hook(_with_context(context), with_kwargs=True)
        for layer, context in zip(layers, contexts, strict=True)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _with_context(context: Context) -> Callable[..., Any]:
    def replace(layer: nn.Module, arguments: Any, named: Any) -> Any:
        call = _FORWARD.bind(layer, *arguments, **named)
        call.arguments["context"] = context
        return call.args[1:], call.kwargs

    return replace


@torch.no_grad()
def layer_attention(model: SpeechModel, frames: Tensor) -> list[LayerAttention]:
    """Return the weights of each attention layer of `model` for frames [T, F], the layer next to the input first.

    The mass outside the window is measured with an identity matrix as values: the output is then the [H, T, T] weights
    that the layer uses, whatever the backend. Memory grows with T squared: give some seconds.
    """
    with layer_inputs(attention_layers(model.encoder)) as inputs:
        model.classify(frames[None])
    found = []
    for layer, input in inputs:
        q, k, _ = layer.project(input)
        identity = torch.eye(q.shape[2], dtype=q.dtype, device=q.device).expand(*q.shape[:3], q.shape[2])
        context, bias = layer.context, layer.bias(layer.context, q.shape[2])
        used = attention(q, k, identity, context, activation=layer.activation, relative_bias=bias)
        weights = attention_weights(q, k, context, activation=layer.activation, relative_bias=bias)
        found.append(LayerAttention(context, weights[0], mass_outside(used[0], context)))
    return found

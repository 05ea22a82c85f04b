"""The heads of a model over a recording of any length, and the same model with other windows, in one pass.

Memory does not grow with the recording: it is read in passages, and every number is a sum over frames. Encoders that
must read it in one piece (unlimited windows, absolute positions) are given its first minute by the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from speechattn.analysis.head_statistics import HeadStatistics
from speechattn.analysis.head_summary import HeadSummary, summarize
from speechattn.analysis.layers import attention_layers, layer_contexts, layer_inputs
from speechattn.analysis.passages import PASSAGE_FRAMES, Passage, margins, needs_whole, passages, whole_passage
from speechattn.analysis.query_groups import ALL, query_groups
from speechattn.analysis.windows import Contexts, WindowComparison, WindowResult
from speechattn.context import Context
from speechattn.encoder.frames_encoder import FramesEncoder
from speechattn.encoder.self_attention import SelfAttention
from speechattn.errors import UserError
from speechattn.models.speech_model import SpeechModel

FRAME_HEADS = ("frames", "ctc")
"""Heads with one row of posteriors a frame."""
REFERENCE, OWN, NONE = "reference", "model", "none"
"""Where the classes of the queries come from."""


@dataclass(frozen=True)
class HeadAnalysis:
    """The result of `analyse_heads`."""

    frame_ms: float
    """Length of a frame of the encoder."""
    frames: int
    """Frames of the encoder that were read."""
    contexts: tuple[Context, ...]
    """The context of each attention layer."""
    groups: tuple[str, ...]
    """Groups of queries that occur."""
    labels: str
    """Where the groups come from: "reference", "model" or "none"."""
    heads: tuple[HeadSummary, ...]
    """Every head, the layer next to the input first."""
    windows: tuple[WindowResult, ...]
    """The trained window first; empty if none were asked for, or if the model has no posteriors for a frame."""
    complete: bool
    """False if it was stopped before the end."""

    @property
    def num_layers(self) -> int:
        """Number of attention layers."""
        return len(self.contexts)

    def of_layer(self, layer: int) -> list[HeadSummary]:
        """Return the heads of a layer, counted from 1."""
        return [head for head in self.heads if head.layer == layer]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON types."""
        return {
            "frame_ms": self.frame_ms,
            "frames": self.frames,
            "complete": self.complete,
            "labels": self.labels,
            "groups": list(self.groups),
            "layers": [str(context) for context in self.contexts],
            "heads": [head.to_dict() for head in self.heads],
            "windows": [window.to_dict() for window in self.windows],
        }


def find_layers(model: SpeechModel) -> list[SelfAttention]:
    """Return the attention layers of a model.

    Raises:
        UserError: it has none.
    """
    layers = attention_layers(model.encoder)
    if not layers:
        config = getattr(model.encoder, "config", None)
        what = f"a {config.block!r} encoder" if config is not None else type(model.encoder).__name__
        raise UserError(
            f"the model has no attention layers, it is {what}: speechattn attention is for block='transformer' and "
            "block='conformer'."
        )
    return layers


@torch.inference_mode()
def analyse_heads(
    model: SpeechModel,
    blocks: Iterable[Tensor],
    num_frames: int,
    reference: Tensor | None = None,
    reference_classes: Sequence[str] | None = None,
    windows: Sequence[tuple[str, Contexts]] = (),
    advance: Callable[[int], bool] | None = None,
    own_frames: int = PASSAGE_FRAMES,
) -> HeadAnalysis:
    """Return what every head of `model` attends to over the frames of a recording.

    Args:
        model: a model in evaluation mode, with attention layers.
        blocks: the frames of the frontend [n, F], some seconds at a time: `num_frames` in all.
        num_frames: their number.
        reference: class of each frame [T], below 0 where it is not known. None takes the model's own labels where it
            has one for a frame, and one group of all frames where it has none.
        reference_classes: names of these classes; None means the model's.
        windows: names and contexts, one a layer, to compare the model's posteriors with; the first is the trained one.
        advance: is called with the frames of the frontend that are done, after each passage; True stops there.
        own_frames: frames of a passage, for encoders that can read passages.

    Raises:
        UserError: the model has no attention layers.
    """
    layers = find_layers(model)
    config = model.config
    stack = config.encoder.stack if model.is_described else 1
    per_frame = config.head in FRAME_HEADS
    classes = config.classes if reference_classes is None else tuple(reference_classes)
    labels = REFERENCE if reference is not None else OWN if config.head == "frames" else NONE
    groups = query_groups(() if labels == NONE else classes)
    statistics: dict[int, HeadStatistics] = {}
    comparison = WindowComparison(windows) if windows and per_frame else None
    comparable = reference is not None and classes == config.classes and config.head == "frames"
    complete, done, counted = True, 0, 0
    for passage in _passages(model, blocks, windows if comparison else (), own_frames):
        start, stop = passage.start // stack, passage.stop // stack
        frames = model.normalize(passage.frames[None])
        with layer_inputs(layers) as inputs:
            hidden = _encode(model, frames)
        logits = model.head(hidden)[0, start:stop] if per_frame else None
        known = torch.full((stop - start,), -1)
        if reference is not None:
            known = _stacked(reference, passage, stack, stop - start)
        groups_of = groups.of_labels(_own_labels(logits, known, labels == OWN))
        for at, (layer, input) in enumerate(inputs):
            if at not in statistics:
                statistics[at] = HeadStatistics(layer, len(groups.names), max(1, num_frames // stack))
            statistics[at].add(input, groups_of, start, stop)
        if comparison is not None and logits is not None:
            others = [logits, *(_logits(model, frames, layers, c)[start:stop] for _, c in windows[1:])]
            comparison.add([other.cpu() for other in others], known if comparable else torch.full_like(known, -1))
        done, counted = done + passage.stop - passage.start, counted + stop - start
        if advance is not None and advance(passage.stop - passage.start) and done < num_frames:
            complete = False
            break
    frame_ms = config.framing.hop_ms * stack
    heads, occurring = _summaries(statistics, groups.names, frame_ms)
    return HeadAnalysis(
        frame_ms=frame_ms,
        frames=counted,
        contexts=tuple(found.context for found in statistics.values()),
        groups=occurring,
        labels=labels,
        heads=tuple(heads),
        windows=tuple(comparison.results(model)) if comparison is not None else (),
        complete=complete,
    )


def _summaries(
    statistics: Mapping[int, HeadStatistics], names: Sequence[str], frame_ms: float
) -> tuple[list[HeadSummary], tuple[str, ...]]:
    """Return the heads of all layers, and the groups of queries that occur, in the order of their names."""
    heads = [head for at, found in statistics.items() for head in summarize(found, at + 1, names, frame_ms)]
    occurring = {name for head in heads for name in head.by_group}
    return heads, tuple(name for name in names if name in occurring and name != ALL)


def _own_labels(logits: Tensor | None, known: Tensor, use: bool) -> Tensor:
    """Return the model's own labels of the frames, or what is known of them."""
    return logits.argmax(1).cpu() if use and logits is not None else known


def _passages(
    model: SpeechModel, blocks: Iterable[Tensor], windows: Sequence[tuple[str, Contexts]], own_frames: int
) -> Iterable[Passage]:
    encoder = model.encoder
    if needs_whole(encoder) or not isinstance(encoder, FramesEncoder):
        return whole_passage(blocks)
    config = encoder.config
    # Chunks of every window that is compared begin with the passage, and their frames are in it.
    stacks = [config.contexts, *(replace(config, context=contexts).contexts for _, contexts in windows)]
    needed = margins(stacks)
    return whole_passage(blocks) if needed is None else passages(blocks, needed, own_frames)


def _encode(model: SpeechModel, frames: Tensor) -> Tensor:
    parameter = next(model.encoder.parameters())
    hidden: Tensor = model.encoder(frames.to(parameter.dtype))[0]
    return hidden


def _logits(model: SpeechModel, frames: Tensor, layers: Sequence[SelfAttention], contexts: Contexts) -> Tensor:
    with layer_contexts(layers, contexts):
        logits: Tensor = model.head(_encode(model, frames))[0]
    return logits


def _stacked(labels: Tensor, passage: Passage, stack: int, count: int) -> Tensor:
    """Return the label [count] of each encoder frame of a passage: that of the frame in the middle of its stack."""
    first = passage.first + passage.start
    own = labels[first : first + passage.stop - passage.start][stack // 2 :: stack][:count]
    return torch.cat([own, own.new_full((count - len(own),), -1)])

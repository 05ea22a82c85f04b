"""Statistics of heads: equal to sums over the dense weights, in one piece and in passages."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from speechattn.analysis.head_summary import HeadSummary
from speechattn.analysis.heads import HeadAnalysis, analyse_heads
from speechattn.analysis.layers import attention_layers, layer_inputs
from speechattn.attention.functional import attention
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.data.labels.classes import PHONES
from speechattn.errors import UserError
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel

NUM_FRAMES = 83
CONTEXTS = [
    Context.truncated(5, 2),
    Context.truncated(0, 0),
    Context.truncated(200, 3),
    Context.chunked(4, left=3, right=2),
    Context.causal(30),
    Context.causal(),
    Context.full(),
]
CLASSES = ("SIL", "AA", "T", "N")
TOLERANCE = 1e-5
"""Rounding of float32 weights, summed in float64."""


def build(context: Any = CONTEXTS[0], classes: tuple[str, ...] = CLASSES, head: str = "frames", **options: Any) -> Any:
    config = EncoderConfig(10, **{"d_model": 8, "num_heads": 2, "num_layers": 2, "context": context, **options})
    model = SpeechModel(ModelConfig(classes, config, num_mels=10, head=head)).eval()
    for parameter in model.encoder.parameters():  # sharper than at the start, so that heads differ
        parameter.data *= 3
    return model


@torch.no_grad()
def dense_weights(model: SpeechModel, frames: Tensor) -> list[Tensor]:
    """The weights [H, T, T] that each layer uses, divided by their sums; in float64."""
    with layer_inputs(attention_layers(model.encoder)) as inputs:
        model.classify(frames[None])
    found = []
    for layer, input in inputs:
        q, k, _ = layer.project(input)
        identity = torch.eye(q.shape[2]).expand(*q.shape[:3], -1)
        bias = layer.bias(layer.context, q.shape[2])
        weights = attention(q, k, identity, layer.context, activation=layer.activation, relative_bias=bias)[0].double()
        found.append(weights / weights.sum(-1, keepdim=True).clamp(min=1e-300))
    return found


def analyse(model: SpeechModel, frames: Tensor, **options: Any) -> HeadAnalysis:
    return analyse_heads(model, [frames], len(frames), **options)


def keys_of(context: Context, i: int, num_frames: int) -> range:
    start, stop = context.visible(i, num_frames)
    assert stop is not None
    return range(start, stop)


def entropy_bits(weights: Tensor) -> Tensor:
    return -torch.xlogy(weights, weights).sum(-1) / math.log(2)


@pytest.mark.parametrize("context", CONTEXTS, ids=str)
@pytest.mark.parametrize("num_frames", [1, 4, NUM_FRAMES])
def test_every_number_is_that_of_the_dense_weights(context: Context, num_frames: int) -> None:
    model, frames = build(context), torch.randn(num_frames, 10)
    found = analyse(model, frames)
    queries = torch.arange(num_frames)
    offsets = queries - queries[:, None]
    for number, weights in enumerate(dense_weights(model, frames), start=1):
        for head, own in zip(found.of_layer(number), weights, strict=True):
            view = head.all
            assert view.queries == num_frames and view.past + view.itself + view.future == pytest.approx(1)
            assert view.distance_ms == pytest.approx(10 * float((own * offsets.abs()).sum()) / num_frames, abs=1e-3)
            assert view.offset_ms == pytest.approx(10 * float((own * offsets).sum()) / num_frames, abs=1e-3)
            assert view.itself == pytest.approx(float(own.diagonal().mean()), abs=TOLERANCE)
            assert view.past == pytest.approx(float((own * (offsets < 0)).sum() / num_frames), abs=TOLERANCE)
            assert view.entropy_bits == pytest.approx(float(entropy_bits(own).mean()), abs=1e-4)
            assert view.effective_frames == pytest.approx(2**view.entropy_bits)
            assert_profile(head, own, context)
            assert_divergences(head, own, context)


def assert_profile(head: HeadSummary, weights: Tensor, context: Context) -> None:
    """The profile is the mean over the queries that see a distance."""
    num_frames = len(weights)
    for offset_ms, mean in zip(head.offsets_ms, head.profile, strict=True):
        offset = round(offset_ms / 10)
        seen = [i for i in range(num_frames) if i + offset in keys_of(context, i, num_frames)]
        expected = float(torch.stack([weights[i, i + offset] for i in seen]).mean()) if seen else 0.0
        assert mean == pytest.approx(expected, abs=TOLERANCE)
    assert head.peak_weight == pytest.approx(max(head.profile))


def assert_divergences(head: HeadSummary, weights: Tensor, context: Context) -> None:
    """The divergence from the profile, renormalised over what each query sees, summed query by query."""
    profile = dict(zip([round(ms / 10) for ms in head.offsets_ms], head.profile, strict=True))
    num_frames, by_distance, equal = len(weights), 0.0, 0.0
    for i in range(num_frames):
        start, stop = context.visible(i, num_frames)
        assert stop is not None
        guess = torch.tensor([profile[j - i] for j in range(start, stop)], dtype=torch.float64)
        own = weights[i, start:stop]
        by_distance += float((torch.xlogy(own, own) - torch.xlogy(own, guess / guess.sum())).sum()) / math.log(2)
        equal += float(math.log2(stop - start) - entropy_bits(own))
    assert head.content_bits == pytest.approx(by_distance / num_frames, abs=1e-4)
    if head.position_share is None:
        assert equal / num_frames < 0.011
    else:
        assert head.position_share == pytest.approx(max(0.0, 1 - by_distance / equal), abs=1e-3)


@pytest.mark.parametrize(
    ("context", "options"),
    [
        (Context.truncated(5, 2), {}),
        (Context.chunked(4, left=3, right=2), {"position_encoding": "rotary"}),
        ((Context.truncated(5, 2), Context.chunked(6, left=8)), {"position_encoding": "alibi"}),
        (Context.truncated(5, 0), {"block": "conformer", "conv_kernel": 5, "conv_lookahead": "symmetric"}),
        (Context.truncated(4, 1), {"activation": "relu", "splice": Context.truncated(2, 1)}),
    ],
    ids=["transformer", "rotary chunks", "a context per layer", "conformer", "relu"],
)
@pytest.mark.parametrize("own_frames", [1, 7, 40])
def test_passages_give_the_numbers_of_the_whole(context: Any, options: Any, own_frames: int) -> None:
    model, frames = build(context, **options), torch.randn(NUM_FRAMES, 10)
    layers = model.config.encoder.layer_contexts
    windows = [("trained", layers), ("itself", (Context.truncated(0, 0),) * 2)]
    labels = torch.randint(0, 4, (NUM_FRAMES,))
    whole = analyse(model, frames, windows=windows, reference=labels)
    parts = analyse_heads(
        model, torch.tensor_split(frames, 8), NUM_FRAMES, windows=windows, reference=labels, own_frames=own_frames
    )
    assert parts.frames == whole.frames == NUM_FRAMES
    for one, other in zip(parts.heads, whole.heads, strict=True):
        assert one.profile == pytest.approx(other.profile, abs=TOLERANCE)
        assert one.content_bits == pytest.approx(other.content_bits, abs=1e-4)
        assert one.edge_past == pytest.approx(other.edge_past, abs=TOLERANCE)
        assert one.by_group.keys() == other.by_group.keys()
        for name, view in one.by_group.items():
            assert view.queries == other.by_group[name].queries
            assert view.entropy_bits == pytest.approx(other.by_group[name].entropy_bits, abs=1e-4)
    for mine, theirs in zip(parts.windows, whole.windows, strict=True):
        assert mine.kl_bits == pytest.approx(theirs.kl_bits, abs=1e-4)


def test_memory_of_the_statistics_does_not_grow_with_the_recording() -> None:
    from speechattn.analysis.head_statistics import HeadStatistics

    layer = attention_layers(build(Context.truncated(5, 2)).encoder)[0]
    short, long = (HeadStatistics(layer, 3, frames) for frames in (100, 1_000_000))
    assert short.mass.shape == long.mass.shape == (3, 2, 8)


def test_groups_divide_the_queries_and_their_means_make_the_mean() -> None:
    model, frames = build(), torch.randn(NUM_FRAMES, 10)
    labels = torch.arange(NUM_FRAMES) % 5 - 1  # -1 is no label
    found = analyse(model, frames, reference=labels)
    assert found.labels == "reference" and found.groups == ("silence", "vowel", "nasal", "stop", "unlabelled")
    weights = dense_weights(model, frames)[0][0]
    queries = torch.arange(NUM_FRAMES)
    distance = (weights * (queries - queries[:, None]).abs()).sum(1)
    head = found.heads[0]
    for name, label in (("silence", 0), ("vowel", 1), ("stop", 2), ("nasal", 3), ("unlabelled", -1)):
        assert head.by_group[name].queries == int((labels == label).sum())
        assert head.by_group[name].distance_ms == pytest.approx(10 * float(distance[labels == label].mean()), abs=1e-3)
    total = sum(view.queries * view.distance_ms for view in head.by_group.values())
    assert total / NUM_FRAMES == pytest.approx(head.all.distance_ms)


def test_without_a_reference_queries_have_the_labels_of_the_model() -> None:
    model, frames = build(classes=PHONES), torch.randn(NUM_FRAMES, 10)
    found = analyse(model, frames)
    from speechattn.data.labels.families import family

    labels = [family(PHONES[label]) for label in model.classify(frames[None])[0][0].argmax(1).tolist()]
    assert found.labels == "model"
    assert {name: view.queries for name, view in found.heads[0].by_group.items()} == {
        name: labels.count(name) for name in dict.fromkeys(labels)
    }


def test_a_model_without_labels_for_frames_has_one_group() -> None:
    found = analyse(build(head="ctc"), torch.randn(40, 10))
    assert found.labels == "none" and found.groups == () and len(found.heads) == 4
    stacked = analyse(build(head="ctc", stack=4), torch.randn(42, 10), reference=torch.arange(42) % 4)
    assert stacked.frames == 10 and stacked.frame_ms == 40 and stacked.heads[0].offsets_ms[0] == -200.0
    assert stacked.heads[0].by_group.keys() == {"stop"}  # frame 2 of each four


def test_relu_weights_are_divided_by_their_sum_and_empty_rows_are_counted() -> None:
    model = build(activation="relu", position_encoding="none")
    for layer in attention_layers(model.encoder):
        layer.query_key_value.bias.data.normal_()
    found = analyse(model, torch.randn(NUM_FRAMES, 10))
    sums = [head.all.past + head.all.itself + head.all.future for head in found.heads]
    looking = [head.all.queries for head in found.heads]
    assert sums == pytest.approx([1.0] * 4) and all(0 < queries <= NUM_FRAMES for queries in looking)
    for head in found.heads:
        assert head.empty == pytest.approx(1 - head.all.queries / NUM_FRAMES)
        assert head.mean_sum != pytest.approx(1.0, abs=0.01)


def test_a_head_at_a_fixed_distance_is_all_position_and_its_window_is_short() -> None:
    model = build(Context.truncated(20, 4), num_layers=1)
    layer = attention_layers(model.encoder)[0]
    layer.query_key_value.weight.data.zero_()
    assert layer.relative_bias is not None
    table = layer.relative_bias.table.data
    table.zero_()
    table[0, 20] = 50.0  # itself
    table[1, 0] = 50.0  # the farthest key back
    near, far = analyse(model, torch.randn(NUM_FRAMES, 10)).heads
    assert near.position_share == pytest.approx(1.0, abs=1e-3) and near.peak_ms == 0 and not near.short_past
    assert near.all.effective_frames == pytest.approx(1.0, abs=1e-3)
    assert far.peak_ms == -200 and far.edge_past == pytest.approx(1.0, abs=1e-3) and far.short_past
    assert not far.short_future and far.edge_future is not None
    assert far.edge_future < 0.05  # the first frames have no key that far back


def test_a_head_that_looks_everywhere_alike_has_no_choice_to_explain() -> None:
    model = build(Context.truncated(20, 4), num_layers=1, position_encoding="none")
    attention_layers(model.encoder)[0].query_key_value.weight.data.zero_()
    views = [Context.truncated(20, 4).visible(i, NUM_FRAMES) for i in range(NUM_FRAMES)]
    for head in analyse(model, torch.randn(NUM_FRAMES, 10)).heads:
        assert head.position_share is None and not head.short_past and not head.short_future
        widths = [stop - start for start, stop in views if stop is not None]
        assert head.profile[20] == pytest.approx(sum(1 / width for width in widths) / NUM_FRAMES, abs=TOLERANCE)


@pytest.mark.parametrize("block", ["cnn", "bigru", "mlp", "linear"])
def test_a_model_without_attention_is_refused_in_one_line(block: str) -> None:
    with pytest.raises(UserError, match=f"no attention layers, it is a '{block}' encoder"):
        analyse(build(block=block), torch.randn(40, 10))


def test_an_analysis_stops_when_asked_and_says_so() -> None:
    model, done = build(), []

    def advance(count: int) -> bool:
        done.append(count)
        return len(done) == 2

    found = analyse_heads(model, [torch.randn(NUM_FRAMES, 10)], NUM_FRAMES, advance=advance, own_frames=20)
    assert not found.complete and found.frames == 40 and done == [20, 20]

"""The conformance suite passes what is right and catches each planted fault by its name, and nothing else."""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from speechattn.attention.functional import attention
from speechattn.attention.masks import band_mask
from speechattn.config import EncoderConfig
from speechattn.conformance.results import FAILED, NOT_OFFERED, PASSED, CheckResult, Findings, Table
from speechattn.conformance.suite import CHECKS, check_attention, check_encoder, what_is_checked
from speechattn.context import Context
from speechattn.encoder.baselines import build_encoder
from speechattn.lengths import valid_mask, zero_padding

FEATURES = 4
CONTEXT = Context.truncated(5, 2)
STREAM_CHECKS = {name for name in CHECKS if name.startswith("stream")}


class Right(nn.Module):
    """One attention layer and its stream, right in every respect; each fault below changes one thing."""

    context = CONTEXT

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.project = nn.Linear(FEATURES, 3 * 8)

    def attend(self, frames: Tensor, lengths: Tensor | None = None, context: Any = None) -> Any:
        q, k, v = self.project(frames).unflatten(2, (3, 1, 8)).permute(2, 0, 3, 1, 4)
        return attention(q, k, v, context or self.context, lengths=lengths, backend="dense")[:, 0]

    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        return self.attend(zero_padding(frames, lengths), lengths), lengths

    def initial_state(self, batch_size: int = 1) -> Any:
        return self.project.weight.new_zeros(batch_size, 0, FEATURES), 0, 0  # frames kept, index of the first, given

    def step(self, frames: Tensor, state: Any) -> Any:
        kept, begin, given = state
        kept = torch.cat([kept, frames], 1)
        return self.give(kept, begin, given, max(given, self.context.ready(begin + kept.shape[1])))

    def give(self, kept: Any, begin: Any, given: Any, ready: Any) -> Any:
        output = self.attend(kept)[:, given - begin : ready - begin]
        unseen = max(0, ready - self.context.left - begin)
        return output, (kept[:, unseen:].clone(), begin + unseen, ready)

    def flush(self, state: Any) -> Any:
        kept, begin, given = state
        return self.give(kept, begin, given, begin + kept.shape[1])[0]


class WithoutStream(Right):
    initial_state = step = flush = property(lambda self: self.missing)


class LeaksOneFrame(WithoutStream):
    def attend(self, frames: Tensor, lengths: Tensor | None = None, context: Any = None) -> Any:
        return super().attend(frames, lengths, Context.truncated(6, 2))


class LosesOneFrame(WithoutStream):
    def attend(self, frames: Tensor, lengths: Tensor | None = None, context: Any = None) -> Any:
        return super().attend(frames, lengths, Context.truncated(4, 2))


class DropsTheWindow(WithoutStream):
    def attend(self, frames: Tensor, lengths: Tensor | None = None, context: Any = None) -> Any:
        return super().attend(frames, lengths, Context.full())


class LosesTheWindowOfShortAudio(WithoutStream):
    def attend(self, frames: Tensor, lengths: Tensor | None = None, context: Any = None) -> Any:
        return super().attend(frames, lengths, Context(1, 1) if frames.shape[1] < 8 else None)


class SwapsTheSides(WithoutStream):
    def attend(self, frames: Tensor, lengths: Tensor | None = None, context: Any = None) -> Any:
        return super().attend(frames, lengths, Context.truncated(2, 5))


class IgnoresLengths(WithoutStream):
    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        return self.attend(frames), lengths


class ZeroTimesNaN(WithoutStream):
    """Scores of padding are filled with the lowest number: a weight of 0, times NaN."""

    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        q, k, v = self.project(frames).unflatten(2, (3, 8)).unbind(2)
        index = torch.arange(frames.shape[1])
        seen = band_mask(self.context, index, index) & valid_mask(lengths, frames.shape[1])[:, None]
        scores = (q @ k.mT).masked_fill(~seen, torch.finfo(frames.dtype).min)
        return scores.softmax(-1) @ v, lengths


class GradientsOfPadding(WithoutStream):
    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        output, lengths = super().forward(frames, lengths)
        valid = valid_mask(lengths, frames.shape[1])[..., None]
        return output + torch.where(valid, self.project(frames)[..., :8], 0), lengths


class CountsThePadding(WithoutStream):
    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        output, _ = super().forward(frames, lengths)
        return output * (1 + bool((lengths + 16 == frames.shape[1]).all())), lengths


class DependsOnTheBatchWidth(WithoutStream):
    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        output, _ = super().forward(frames, lengths)
        return output * frames.shape[1], lengths


class LastChunkWrongAlone(WithoutStream):
    """Alone, a row is filled up to whole chunks of four, and the filling is attended to."""

    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        num_frames, frames = frames.shape[1], zero_padding(frames, lengths)
        if len(frames) != 1:
            return self.attend(frames, lengths), lengths
        return self.attend(functional.pad(frames, (0, 0, 0, -num_frames % 4)))[:, :num_frames], lengths


class NeighboursCount(WithoutStream):
    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        output, lengths = super().forward(frames, lengths)
        return output + 0.1 * (output - output.mean(0)), lengths


class EmptyRowsAreNaN(WithoutStream):
    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        output, lengths = super().forward(frames, lengths)
        return output / (lengths > 0).all(), lengths


class EmptyRowsHaveNaNGradients(WithoutStream):
    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        output, lengths = super().forward(frames, lengths)
        return output + torch.where(lengths > 0, (lengths * self.project.bias[0].square()).sqrt(), 0)[
            :, None, None
        ], lengths


class NeedsThreeFrames(WithoutStream):
    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        functional.pad(frames.mT, (2, 2), mode="reflect")  # refuses what is not longer than the padding
        return super().forward(frames, lengths)


class NeedsAFrame(WithoutStream):
    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        lengths.max()
        frames[0, 0]
        return super().forward(frames, lengths)


class NeverTheSame(WithoutStream):
    calls = 0

    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        self.calls += 1
        return super().forward(frames * (1 + 1e-13 * (self.calls % 7)), lengths)


class BelievesItsStrides(WithoutStream):
    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        _, num_frames, features = frames.shape
        strides = (num_frames * features, features, 1)
        return super().forward(frames.as_strided(frames.shape, strides) if frames.numel() else frames, lengths)


class HalfPrecision(WithoutStream):
    def forward(self, frames: Tensor, lengths: Tensor) -> Any:
        if frames.dtype == torch.float32:
            frames = frames.bfloat16().float()
        return super().forward(frames, lengths)


class RingOfExactlyTheWindow(Right):
    """Keeps as many frames as one frame sees: right for one frame a push, too few for more."""

    def step(self, frames: Tensor, state: Any) -> Any:
        kept, begin, given = state
        kept = torch.cat([kept, frames], 1)
        assert self.context.window is not None
        lost = max(0, kept.shape[1] - self.context.window)
        kept, begin = kept[:, lost:], begin + lost
        ready = max(given, self.context.ready(begin + kept.shape[1]))
        output = self.attend(functional.pad(kept, (0, 0, lost, 0)))[:, given - begin + lost : ready - begin + lost]
        return output, (kept.clone(), begin, ready)


class FlushesNothing(Right):
    def flush(self, state: Any) -> Any:
        return super().flush(state)[:, :0]


class FlushesAWholeChunk(Right):
    """Its last frames attend to what fills up the last chunk of four."""

    def flush(self, state: Any) -> Any:
        kept, begin, given = state
        full = functional.pad(kept, (0, 0, 0, -(begin + kept.shape[1]) % 4))
        return super().flush((full, begin, given))[:, : begin + kept.shape[1] - given]


class WaitsLonger(Right):
    def step(self, frames: Tensor, state: Any) -> Any:
        kept, begin, given = state
        kept = torch.cat([kept, frames], 1)
        return self.give(kept, begin, given, max(given, self.context.ready(begin + kept.shape[1] - 3)))


class KeepsEverything(Right):
    def give(self, kept: Any, begin: Any, given: Any, ready: Any) -> Any:
        return self.attend(kept)[:, given - begin : ready - begin], (kept, begin, ready)


class KeepsAViewOfEverything(Right):
    def give(self, kept: Any, begin: Any, given: Any, ready: Any) -> Any:
        output, (small, *rest) = super().give(kept, begin, given, ready)
        grown = torch.cat([kept.new_zeros(1, 8 * ready + 8, FEATURES).expand(len(kept), -1, -1), small], 1)
        return output, (grown[:, 8 * ready + 8 :], *rest)


class ChangesItsState(Right):
    def initial_state(self, batch_size: int = 1) -> Any:
        return list(super().initial_state(batch_size))

    def step(self, frames: Tensor, state: Any) -> Any:
        output, state[:] = super().step(frames, state)
        return output, state


class MixesStreams(Right):
    def step(self, frames: Tensor, state: Any) -> Any:
        output, state = super().step(frames, state)
        return output.roll(1, 0), state


class StreamsBackwards(Right):
    def step(self, frames: Tensor, state: Any) -> Any:
        return super().step(frames.flip(1), state)


FAULTS = {
    LeaksOneFrame: {"reach", "outside"},
    LosesOneFrame: {"reach", "window", "sides"},
    DropsTheWindow: {"reach", "outside", "sides"},
    LosesTheWindowOfShortAudio: {"window", "padding amount", "neighbours"},
    SwapsTheSides: {"reach", "outside", "window", "sides"},
    IgnoresLengths: {"padding values", "padding gradients", "padding amount", "fixed width", "neighbours"},
    ZeroTimesNaN: {"padding values", "padding gradients"},
    GradientsOfPadding: {"padding gradients"},
    CountsThePadding: {"fixed width"},
    DependsOnTheBatchWidth: {"padding amount", "fixed width", "neighbours"},
    LastChunkWrongAlone: {"padding amount", "fixed width", "neighbours", "empty rows"},
    NeighboursCount: {"padding amount", "neighbours", "empty rows"},
    EmptyRowsAreNaN: {"empty rows", "finite gradients"},
    EmptyRowsHaveNaNGradients: {"finite gradients"},
    NeedsThreeFrames: {"short audio", "no frames"},
    NeedsAFrame: {"no frames"},
    NeverTheSame: {"repeat"},
    BelievesItsStrides: {"layout"},
    HalfPrecision: {"precision"},
    RingOfExactlyTheWindow: {"stream", "stream end"},
    FlushesNothing: {"stream", "stream end"},
    FlushesAWholeChunk: {"stream", "stream end"},
    WaitsLonger: {"stream on time"},
    KeepsEverything: {"stream memory"},
    KeepsAViewOfEverything: {"stream memory"},
    ChangesItsState: {"stream purity"},
    MixesStreams: {"stream batch"},
    StreamsBackwards: {"stream", "stream end"},
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_fails_the_checks_it_breaks_and_no_other(fault: Any) -> None:
    findings = check_encoder(fault(), FEATURES, CONTEXT)
    assert set(findings.failed) == FAULTS[fault], str(findings)


SMALL = {"input_dim": 6, "d_model": 8, "num_heads": 2, "num_layers": 2, "d_ff": 16, "dropout": 0.0}
OURS = {
    "per frame": {"context": Context.truncated(3, 2)},
    "chunked": {"context": Context.chunked(3, 2), "block": "conformer", "conv_kernel": 3, "conv_lookahead": 1},
    "stacked": {"context": (Context.truncated(2, 1), Context.chunked(2, 2)), "stack": 2},
    "spliced": {"block": "mlp", "splice": Context.truncated(3, 1)},
}


@pytest.mark.parametrize("settings", OURS.values(), ids=OURS)
def test_our_encoders_pass_every_check(settings: Any) -> None:
    torch.manual_seed(0)
    findings = check_encoder(build_encoder(EncoderConfig(**SMALL | settings)), 6, num_frames=31)
    assert findings.failed == [], str(findings)
    offered = {check for check, outcome in findings.outcomes.items() if outcome.status == PASSED}
    missing = set(CHECKS) - offered
    assert missing <= ({"sides"} if "stack" in settings else STREAM_CHECKS if "splice" in settings else set())


@pytest.mark.parametrize("backend", ["dense", "banded"])
@pytest.mark.parametrize(
    "context", [Context.truncated(5, 2), Context.chunked(4, 6), Context.causal(), Context(9, None)]
)
def test_our_attention_passes_every_check(context: Any, backend: Any) -> None:
    def ours(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Any:
        return attention(q, k, v, context, lengths=lengths, backend=backend)

    findings = check_attention(ours, context, num_heads=1, head_dim=4)
    assert findings.failed == [] and findings.name == "ours"
    assert {check for check, o in findings.outcomes.items() if o.status == NOT_OFFERED} == STREAM_CHECKS


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_is_right_passes_everything_in_both_precisions(dtype: Any) -> None:
    findings = check_encoder(Right(), FEATURES, CONTEXT, dtype=dtype)
    assert {outcome.status for outcome in findings.outcomes.values()} == {PASSED}, str(findings)
    error = findings.outcomes["stream"].value
    assert error is not None and error <= (1e-10 if dtype == torch.float64 else 1e-5)


@pytest.mark.gpu
def test_what_is_right_passes_everything_on_a_gpu() -> None:
    assert check_encoder(Right(), FEATURES, CONTEXT, dtype=torch.float32, device="cuda").failed == []


def test_the_shortest_audio_that_may_be_asked_for_is_enough() -> None:
    assert check_encoder(Right(), FEATURES, CONTEXT, num_frames=8).failed == []


def test_a_full_view_offers_no_stream_and_nothing_outside() -> None:
    class Full(Right):
        context = Context.full()

    findings = check_encoder(Full(), FEATURES, Context.full())
    assert findings.failed == []
    not_offered = {check for check, o in findings.outcomes.items() if o.status == NOT_OFFERED}
    assert not_offered == STREAM_CHECKS | {"outside", "sides"}


def test_a_state_may_grow_when_the_reach_has_no_limit_on_the_left() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.GRU(FEATURES, 5, batch_first=True)

        def forward(self, frames: Tensor, lengths: Tensor) -> Any:
            return self.cells(frames)[0], lengths

        def initial_state(self, batch_size: int = 1) -> Any:
            return next(self.parameters()).new_zeros(1, batch_size, 5)

        def step(self, frames: Tensor, state: Any) -> Any:
            return self.cells(frames, state) if frames.shape[1] else (frames.new_zeros(len(frames), 0, 5), state)

        def flush(self, state: Any) -> Any:
            return state.new_zeros(state.shape[1], 0, 5)

    class Growing(Right):
        context = Context.causal()

        def give(self, kept: Any, begin: Any, given: Any, ready: Any) -> Any:
            return self.attend(kept)[:, given:ready], (kept, 0, ready)

    checks = ("stream", "stream memory")
    constant = check_encoder(Recurrent(), FEATURES, Context.causal(), checks=checks)
    assert [o.status for o in constant.outcomes.values()] == [PASSED, PASSED]
    growing = check_encoder(Growing(), FEATURES, Context.causal(), checks=checks)
    assert [o.status for o in growing.outcomes.values()] == [PASSED, NOT_OFFERED]


def test_pushes_follow_the_granularity_and_only_the_last_may_differ() -> None:
    class WholeChunks(Right):
        def step(self, frames: Tensor, state: Any) -> Any:
            if frames.shape[1] % 4 and frames.shape[1] > 4:
                raise ValueError("four frames a push")
            return super().step(frames, state)

    findings = check_encoder(WholeChunks(), FEATURES, CONTEXT)
    assert findings.outcomes["stream"].meaning.endswith("raises ValueError: four frames a push.")
    assert check_encoder(WholeChunks(), FEATURES, CONTEXT, granularity=4).failed == []


def test_relu_that_is_dead_for_one_draw_is_seen_in_another() -> None:
    class Rectified(WithoutStream):
        def attend(self, frames: Tensor, lengths: Tensor | None = None, context: Any = None) -> Any:
            q, k, v = self.project(frames).unflatten(2, (3, 1, 8)).permute(2, 0, 3, 1, 4)
            return attention(q, k, v, self.context, lengths=lengths, activation="relu")[:, 0]

    assert check_encoder(Rectified(), FEATURES, CONTEXT).failed == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda frames, lengths: 1 / 0, "Raises ZeroDivisionError: division by zero"),
        (lambda frames, lengths: frames, "an encoder must return (output, lengths), got Tensor."),
        (
            lambda frames, lengths: (frames[0], lengths),
            "output must be [1, T, D] and lengths [1], got [33, 4] and [1].",
        ),
        (lambda frames, lengths: (frames, lengths + 1), "output lengths [34] do not fit 33 output frames."),
        (lambda frames, lengths: (frames.detach(), lengths), "no gradient flows from the output to the input."),
    ],
)
def test_an_exception_or_a_wrong_shape_is_a_failure_and_never_a_crash(answer: Any, message: str) -> None:
    findings = check_encoder(answer, FEATURES, CONTEXT)
    assert set(findings.outcomes) == set(CHECKS)
    assert findings.outcomes["reach"].status == FAILED and message.lower() in findings.outcomes["reach"].meaning.lower()
    assert "\n" not in findings.outcomes["reach"].meaning


def test_what_always_raises_passes_nothing() -> None:
    def divide(frames: Tensor, lengths: Tensor) -> Any:
        return 1 / 0

    findings = check_encoder(divide, FEATURES, CONTEXT)
    assert all(outcome.status != PASSED for outcome in findings.outcomes.values())


def test_warnings_of_what_is_checked_do_not_stop_a_check() -> None:
    def warns(frames: Tensor, lengths: Tensor) -> Any:
        warnings.warn("odd input", stacklevel=2)
        return frames, lengths

    assert check_encoder(warns, FEATURES, Context.truncated(0, 0)).failed == []


def test_the_module_that_was_given_stays_as_it_was_and_so_do_random_numbers() -> None:
    model = Right().train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    first, second = (check_encoder(model, FEATURES, CONTEXT, checks=["reach", "precision", "stream"]) for _ in range(2))
    assert first == second
    assert model.training and all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(p.dtype == torch.float32 and p.grad is None for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="there is no check 'rech'; there are reach, outside"):
        check_encoder(Right(), FEATURES, CONTEXT, checks=["rech"])
    with pytest.raises(ValueError, match=r"dtype must be torch\.float64 or torch\.float32, got torch\.float16"):
        check_encoder(Right(), FEATURES, CONTEXT, dtype=torch.float16)
    with pytest.raises(ValueError, match="num_frames must be 8 or more and granularity 1 or more, got 7 and 1"):
        check_encoder(Right(), FEATURES, CONTEXT, num_frames=7)
    with pytest.raises(TypeError, match="reach must say what an output frame depends on"):
        check_encoder(Right(), FEATURES)
    with pytest.raises(TypeError, match="got 5"):
        check_encoder(Right(), FEATURES, 5)  # type: ignore[arg-type]


def test_a_reach_may_be_a_function_or_a_stack() -> None:
    def three(i: Any, num_frames: Any) -> Any:
        return i - 3, i + 3

    def shifted(frames: Tensor, lengths: Tensor) -> Any:
        return sum(
            functional.pad(frames, (0, 0, max(n, 0), max(-n, 0)))[:, max(-n, 0) :][:, : frames.shape[1]]
            for n in (-2, -1, 0, 1, 2, 3)
        ), lengths

    for declared in (three, Context.truncated(3, 2), [Context.truncated(1, 2), Context.truncated(2, 0)]):
        findings = check_encoder(shifted, 2, declared, checks=["reach", "outside", "window", "sides"])
        assert findings.failed == [], str(findings)
    assert check_encoder(shifted, 2, [CONTEXT, CONTEXT], checks=["reach"]).failed == ["reach"]


def outcomes() -> Any:
    return {
        "reach": CheckResult(FAILED, 3.0, "3 leak | 0 lack", "Three."),
        "repeat": CheckResult(PASSED, 0.0, "0", "The same."),
        "stream": CheckResult(NOT_OFFERED, None, "", "None."),
        "precision": CheckResult(FAILED, float("inf"), "NaN or Inf", "NaN."),
    }


def test_a_table_as_text_markdown_and_json() -> None:
    table = Table([Findings("mine", outcomes()), Findings("theirs", absent="not installed: pip install theirs")])
    assert table.checks == ["reach", "repeat", "stream", "precision"]
    text = str(table).splitlines()
    assert text[0] == "check      mine                  theirs"
    assert text[1] == "reach      FAIL 3 leak | 0 lack  not installed: pip install theirs"
    assert text[2].split() == ["repeat", "pass", "0", "not", "installed:", "pip", "install", "theirs"]
    lines = table.markdown().splitlines()
    assert lines[:3] == [
        "| check | mine | theirs |",
        "| --- | --- | --- |",
        r"| reach | **FAIL** 3 leak \| 0 lack | not installed: pip install theirs |",
    ]
    assert lines[4] == "| stream | not offered | not installed: pip install theirs |"
    data = json.loads(json.dumps(table.to_dict(), allow_nan=False))
    mine, theirs = data["columns"]
    assert mine["outcomes"]["reach"] == {
        "status": "failed",
        "value": 3.0,
        "measured": "3 leak | 0 lack",
        "meaning": "Three.",
    }
    assert mine["outcomes"]["precision"]["value"] is None and theirs == {
        "name": "theirs",
        "absent": "not installed: pip install theirs",
    }
    assert str(table.columns[1]) == "theirs: not installed: pip install theirs"
    assert Table([]).checks == [] and table.columns[0].failed == ["reach", "precision"]


def test_every_check_says_what_it_asks() -> None:
    asked = what_is_checked()
    assert list(asked) == list(CHECKS)
    assert all(re.fullmatch(r"[A-Z].*\.", sentence) for sentence in asked.values())
    assert len(set(asked.values())) == len(asked)

"""docs/input_limits.md is true: its numbers equal those of the code, and inputs are accepted and refused as it says."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rounding import assert_same

import speechattn as sa
from speechattn.data.audio.samples import whole_rate

PAGE = (Path(__file__).parents[1] / "docs" / "input_limits.md").read_text()
LINES = re.findall(r"^\| ([^|]+) \| ([\d,.]+)[^|]* \| `(speechattn[^`]+)` \|$", PAGE, flags=re.MULTILINE)


def value_of(expression: str) -> Any:
    """The value of `module.NAME` or `module.NAME(number).attribute`; the page holds no other expressions."""
    found = re.fullmatch(r"([a-z_.]+)\.(\w+)(\((\d*)\)\.(\w+))?", expression)
    assert found is not None, expression
    module, name, called, argument, attribute = found.groups()
    value = getattr(importlib.import_module(module), name)
    if called:
        value = getattr(value(*([int(argument)] if argument else [])), attribute)
    return value


@pytest.mark.parametrize(("limit", "number", "expression"), LINES, ids=[line[0] for line in LINES])
def test_a_number_of_the_page_is_that_of_the_code(limit: str, number: str, expression: str) -> None:
    assert float(number.replace(",", "")) == pytest.approx(float(value_of(expression)), rel=1e-9)


def test_every_row_of_the_table_is_compared() -> None:
    table = PAGE.partition("## Numbers")[2].partition("\n## ")[0]
    assert (
        len(LINES) == len(re.findall(r"^\| ", table, flags=re.MULTILINE)) - 1
    )  # the head; the rule below has no space


def test_numbers_in_the_prose_equal_those_of_the_table() -> None:
    numbers = {expression.rpartition(".")[2]: number for _, number, expression in LINES}
    assert f"whole number of Hz from {numbers['MIN_RATE']} to {numbers['MAX_RATE']}" in PAGE
    assert f"windows of at most {numbers['NATIVE_KEYS']} keys" in PAGE
    assert f"finite, and at most {numbers['MAX_AMPLITUDE']}." in PAGE
    assert f"may end up to {numbers['MAX_OVERHANG_S']} s apart" in PAGE


@pytest.mark.parametrize("rate", [1000, 768_000])
def test_rates_at_the_limits_are_accepted_and_those_beyond_are_refused(rate: int) -> None:
    assert whole_rate(rate) == rate
    with pytest.raises(ValueError, match="1000 to 768000 Hz"):
        whole_rate(999 if rate == 1000 else 768_001)


@pytest.mark.parametrize("rate", [11025, 22050])
def test_a_rate_without_whole_hops_asks_for_a_hop(rate: int) -> None:
    with pytest.raises(ValueError, match="hop"):
        sa.Framing(sample_rate=rate)
    assert sa.Framing(sample_rate=rate, hop=rate // 100).hop == rate // 100


def test_a_frontend_takes_the_dtypes_of_the_page() -> None:
    frontend = sa.LogMel()
    for dtype in (torch.float32, torch.float64):
        assert frontend(torch.zeros(1, 1600, dtype=dtype))[0].shape == (1, 10, 80)
    for dtype in (torch.int16, torch.float16, torch.bfloat16):
        with pytest.raises(TypeError, match="float32 or float64"):
            frontend(torch.zeros(1, 1600, dtype=dtype))


def test_a_stream_takes_the_dtypes_of_the_page() -> None:
    config = sa.ModelConfig(("SIL", "AA"), sa.EncoderConfig(40, d_model=16, num_layers=1), num_mels=40)
    stream = sa.Stream(sa.SpeechModel(config).eval())
    for accepted in ("float32", "float64", "int16"):
        stream.push(np.zeros(160, accepted))
    for refused in ("int32", "uint8", "float16"):
        with pytest.raises(TypeError, match="16-bit integers"):
            stream.push(np.zeros(160, refused))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_attention_and_the_planner_take_the_dtypes_of_the_page(dtype: torch.dtype) -> None:
    q = torch.zeros(1, 1, 3, 8, dtype=dtype)
    assert sa.attention(q, q, q, sa.Context.causal(1)).dtype == dtype
    assert sa.estimate(sa.EncoderConfig(80), frames=10, dtype=str(dtype).removeprefix("torch.")).peak_bytes > 0


def test_amplitudes_beyond_the_limit_are_refused_with_the_divisor() -> None:
    frontend = sa.LogMel()
    frontend(torch.full((1, 1600), 100.0))
    with pytest.raises(sa.UserError, match="32768"):
        frontend(torch.full((1, 1600), 101.0))
    with pytest.raises(sa.UserError, match="at sample 3 "):
        frontend(torch.zeros(1, 1600).index_fill(1, torch.tensor([3]), torch.nan))
    kept = sa.LogMel(nan_policy="zero")(torch.zeros(1, 1600).index_fill(1, torch.tensor([3]), torch.nan))[0]
    assert_same(kept, frontend(torch.zeros(1, 1600))[0])


def test_nothing_is_valid_everywhere_and_gives_no_frames() -> None:
    frames, lengths = sa.LogMel()(torch.zeros(2, 159))
    assert (frames.shape, lengths.tolist()) == ((2, 0, 80), [0, 0])
    encoder = sa.Encoder(sa.EncoderConfig(80, d_model=16, num_layers=1)).eval()
    for rows, count in ((2, 0), (0, 5)):
        assert encoder(torch.zeros(rows, count, 80))[0].shape == (rows, count, 16)


def test_limits_of_contexts_stacks_and_learned_positions_are_those_of_the_page() -> None:
    assert sa.Context.causal().window is sa.Context.causal().kept_frames is None
    for stack in (1, 2, 4):
        assert sa.EncoderConfig(80, stack=stack).stack == stack
    with pytest.raises(sa.ConfigError, match="stack"):
        sa.EncoderConfig(80, stack=3)
    learned = sa.EncoderConfig(80, d_model=16, num_layers=1, position_encoding="learned", max_frames=5)
    with pytest.raises(ValueError, match="max_frames=6"):
        sa.Encoder(learned)(torch.zeros(1, 6, 80))

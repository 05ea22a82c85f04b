"""Memory that glibc and MKL keep, computed by hand for small numbers of frames."""

from __future__ import annotations

from dataclasses import replace

import pytest

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.heuristics import frames_at_once
from speechattn.planning.library_memory import PACKED_FEATURES, PACKED_ROWS, kept_blocks, packed_products
from speechattn.planning.shapes import Shapes
from speechattn.system.process_memory import INFERENCE_BLOCK

CONFIG = EncoderConfig(input_dim=80, d_model=256, num_heads=4, num_layers=2, d_ff=1024)
FRAMES = 20_000
"""A hidden tensor of 20.48 MB, more than twice INFERENCE_BLOCK."""


def test_nothing_is_kept_while_hidden_tensors_are_below_the_block_size() -> None:
    largest = INFERENCE_BLOCK // (256 * 4)
    assert kept_blocks(Shapes(CONFIG, largest)) == {}
    assert kept_blocks(Shapes(CONFIG, largest + 1)) != {}


def test_a_transformer_keeps_twice_three_chunks_and_four_times_the_inside_of_one() -> None:
    chunk = frames_at_once(1, FRAMES)
    kept = kept_blocks(Shapes(CONFIG, FRAMES))
    assert chunk < FRAMES and kept["frames as they entered"] == 0
    assert kept["chunks of a feed-forward layer"] == 2 * 3 * chunk * 256 * 4 + 4 * chunk * 1024 * 4
    assert sum(kept.values()) == kept["chunks of a feed-forward layer"]


def test_a_conformer_keeps_four_chunks_and_a_large_inside_is_capped() -> None:
    config = replace(CONFIG, block="conformer", d_ff=4096)
    chunk = frames_at_once(1, FRAMES)
    assert chunk * 4096 * 4 > INFERENCE_BLOCK
    kept = kept_blocks(Shapes(config, FRAMES))["chunks of a feed-forward layer"]
    assert kept == 2 * 4 * chunk * 256 * 4 + INFERENCE_BLOCK


@pytest.mark.parametrize("frames", [9_000, 40_000, 400_000])
def test_copied_input_counts_twice_and_at_most_as_one_block(frames: int) -> None:
    config = replace(CONFIG, splice=Context(1, 1))
    entered = frames * 3 * 80 * 4
    assert kept_blocks(Shapes(config, frames))["frames as they entered"] == min(2 * entered, INFERENCE_BLOCK)


def test_rotary_positions_keep_angles_and_for_small_tensors_the_turned_halves() -> None:
    config = replace(CONFIG, position_encoding="rotary")
    small, large = kept_blocks(Shapes(config, 10_000)), kept_blocks(Shapes(config, FRAMES))
    assert small["angles"] == 10_000 * 32 * 8 and small["turned halves"] == 2 * 10_000 * 256 * 4
    assert large["angles"] == FRAMES * 32 * 8 and "turned halves" not in large


def test_a_cnn_keeps_no_chunks() -> None:
    assert set(kept_blocks(Shapes(replace(CONFIG, block="cnn"), FRAMES))) == {"frames as they entered"}


def test_packed_products_of_float64_are_powers_of_two_up_to_a_limit() -> None:
    wide = Shapes(CONFIG, FRAMES, dtype="float64")
    assert kept_blocks(wide)["packed products"] == packed_products(wide) == PACKED_ROWS * (128 + 256) * 8
    narrow = replace(CONFIG, input_dim=300, num_heads=2, d_model=100)
    assert packed_products(Shapes(narrow, 1000, dtype="float64")) == 1000 * PACKED_FEATURES * 8

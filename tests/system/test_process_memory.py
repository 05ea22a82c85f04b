"""Freed blocks go back to the system where an encoder computes, by a setting of glibc that can be turned off."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import speechattn as sa
from speechattn.attention.native.attention import native_unavailable
from speechattn.planning import memory_limit as guard
from speechattn.system import process_memory as memory

CONFIG = sa.EncoderConfig(input_dim=8, d_model=16, num_heads=2, num_layers=1, context=sa.Context.truncated(4, 4))
ROOT = Path(memory.__file__).parents[1]
BLOCKS = """
import ctypes
from speechattn.system.process_memory import return_blocks

class Counts(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    _fields_ = [(name, ctypes.c_size_t) for name in names]

library = ctypes.CDLL(None)
library.mallinfo2.restype = Counts
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes, library.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
library.free(library.malloc(20_000_000))  # from here on glibc keeps 20 MB and less
return_blocks(1_000_000)
before = library.mallinfo2().hblkhd
block = library.malloc(5_000_000)
print(library.mallinfo2().hblkhd - before)
"""


@pytest.fixture
def thresholds(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The block sizes that are set from here on, in a process that has set none."""
    asked: list[int] = []

    def set_threshold(least_bytes: int) -> None:
        asked.append(least_bytes)
        monkeypatch.setattr(memory, "_returned_from", least_bytes)

    for name in (memory.SWITCH, "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(memory, "_returned_from", math.inf)
    monkeypatch.setattr(memory, "_set_threshold", set_threshold)
    return asked


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc 2.33"
)
@pytest.mark.parametrize(("switch", "mapped"), [("", 5_000_000), ("0", 0)])
def test_a_block_of_5_mb_is_the_systems_own_after_a_larger_one_was_freed(switch: str, mapped: int) -> None:
    environment = os.environ | {memory.SWITCH: switch, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", BLOCKS], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) == pytest.approx(mapped, abs=10_000)


def test_training_returns_smaller_blocks_than_inference_and_never_the_other_way(thresholds: list[int]) -> None:
    encoder, frames = sa.Encoder(CONFIG), torch.zeros(1, 20, 8)
    with torch.no_grad():
        encoder(frames)
        encoder(frames)
    assert thresholds == [memory.INFERENCE_BLOCK]
    with sa.memory_limit("100GB"):
        encoder(frames)
    with torch.no_grad():
        encoder(frames)
    assert thresholds == [memory.INFERENCE_BLOCK, memory.TRAINING_BLOCK]
    memory.return_blocks(memory.MEASURED_BLOCK)
    encoder(frames)
    assert thresholds[2:] == [memory.MEASURED_BLOCK]


def test_a_training_returns_blocks_from_a_planned_size_on(
    thresholds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, frames = sa.Encoder(CONFIG), torch.zeros(2, 100, 8)
    planned = sa.estimate(
        CONFIG, 100, batch_size=2, training=True, native=native_unavailable() is None, lengths=False
    ).peak_bytes
    for least, expected in ((planned + 1, []), (planned, [memory.TRAINING_BLOCK])):
        monkeypatch.setattr("speechattn.encoder.memory_check.LARGE_TRAINING", least)
        encoder(frames)
        assert thresholds == expected


def test_a_training_with_checkpointing_returns_blocks_and_no_frames_none(thresholds: list[int]) -> None:
    encoder = sa.Encoder(replace(CONFIG, gradient_checkpointing=True))
    for shape in ((0, 20, 8), (1, 0, 8)):
        encoder(torch.zeros(shape))
    assert thresholds == []
    encoder(torch.zeros(1, 20, 8))
    assert thresholds == [memory.TRAINING_BLOCK]


def test_a_stream_changes_no_setting(thresholds: list[int]) -> None:
    encoder = sa.Encoder(CONFIG).eval()
    encoder.step(torch.zeros(1, 20, 8), encoder.initial_state())
    assert thresholds == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPEECHATTN_MALLOC", "0"),
        ("MALLOC_MMAP_THRESHOLD_", "65536"),
        ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=65536"),
    ],
)
def test_the_environment_has_the_last_word(
    thresholds: list[int], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with sa.memory_limit("100GB"):
        sa.Encoder(CONFIG)(torch.zeros(1, 20, 8))
    with torch.no_grad():
        sa.Encoder(CONFIG)(torch.zeros(1, 20, 8))
    assert thresholds == []


def test_freed_memory_is_given_back_before_a_call_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [900_000_000]
    monkeypatch.setattr(guard, "resident_bytes", lambda: held[0])
    monkeypatch.setattr(guard, "trim", lambda: held.__setitem__(0, 500_000_000))
    with torch.no_grad(), sa.memory_limit(900_000_000):
        sa.Encoder(CONFIG).eval()(torch.zeros(1, 20, 8))
    assert held == [500_000_000]
    held[0] = 500_000_000
    monkeypatch.setattr(guard, "trim", lambda: pytest.fail("nothing was tight"))
    with torch.no_grad(), sa.memory_limit(900_000_000):
        sa.Encoder(CONFIG).eval()(torch.zeros(1, 20, 8))

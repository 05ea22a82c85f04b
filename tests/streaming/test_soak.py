"""Ten hours without a break: memory stays what it was, and the last minute is what an offline pass over it gives.

Among 3.6 million radians float32 knows steps of 0.25: an angle kept in it would be wrong by up to 0.125 rad.
"""

import copy
import math
import os
from dataclasses import replace
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from speechattn.attention.positions import rotary, sinusoidal
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder

PUSH, PUSHES, MINUTE = 1000, 3600, 6000
HOURS_10 = PUSH * PUSHES
MIB = 2**20
PI = Decimal("3.14159265358979323846264338327950288419716939937511")


def frames_of(number: Any) -> Any:
    """The frames [1, PUSH, 40] of one push: the same whenever they are asked for."""
    return torch.randn(1, PUSH, 40, generator=torch.Generator().manual_seed(number))


def soaked(position_encoding: Any) -> Any:
    context = (Context.truncated(32, 4), Context.chunked(8, 24, 2))
    return Encoder(
        EncoderConfig(
            40,
            d_model=128,
            num_heads=4,
            num_layers=2,
            context=context,
            position_encoding=position_encoding,
            max_frames=50 * PUSH,
        )
    ).eval()


def resident_bytes() -> Any:
    """What this process holds now; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def starting_at(encoder: Any, start: Any) -> Any:
    """The encoder in float64, whose offline pass begins at the absolute frame `start`."""
    moved = copy.deepcopy(encoder).double()
    place = moved._place
    moved._place = lambda x, begin, lengths=None: place(x, begin + start, lengths)
    for block in moved.blocks:
        project = block.attention.project
        block.attention.project = lambda input, begin=0, project=project: project(input, begin + start)
    return moved


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("position_encoding", ["relative", "rotary", "sinusoidal"])
def test_ten_hours(position_encoding: Any) -> None:
    encoder = soaked(position_encoding)
    outputs: list[Any] = []
    state, sizes, resident, out = encoder.initial_state(), set(), [], 0
    for number in range(PUSHES):
        hidden, state = encoder.step(frames_of(number), state)
        out += hidden.shape[1]
        if number >= 10:
            sizes.add(state.num_bytes)
        if number >= PUSHES // 10:
            resident.append(resident_bytes())
        outputs = [*outputs[-MINUTE // PUSH :], hidden]
    last = encoder.flush(state)
    assert out + last.shape[1] == HOURS_10 == state.frames
    assert len(sizes) == 1, "bytes of the state never change"
    # Linux counts pages late, some for each processor; a vector kept of every frame would be 1.8 GB.
    assert max(resident) - min(resident) < 128 * MIB
    streamed = torch.cat([*outputs, last], 1)[:, -MINUTE:].double()

    # A minute, and before it more than it can see; a window begins with a chunk.
    begin = HOURS_10 - MINUTE - PUSH
    assert encoder.lookback < PUSH and begin % 8 == 0
    window = torch.cat([frames_of(number) for number in range(begin // PUSH, PUSHES)], 1).double()
    offline = starting_at(encoder, begin)(window)[0][:, -MINUTE:]
    assert (streamed - offline).abs().max() <= 1e-5 * offline.abs().max()
    elsewhere = starting_at(encoder, 0)(window)[0][:, -MINUTE:]
    if position_encoding == "sinusoidal":
        assert (streamed - elsewhere).abs().max() > 1e-2, "where it is matters, or nothing was shown"
    else:
        assert (streamed - elsewhere).abs().max() <= 1e-5 * offline.abs().max(), "only distances matter"


def exact_angle(position: Any, j: Any, num_angles: Any) -> Any:
    """position * 10000 ** (-j / num_angles), less whole turns, by 40 digits."""
    with localcontext() as context:
        context.prec = 40
        angle = position * Decimal(10_000) ** (-Decimal(j) / num_angles)
        return float(angle % (2 * PI))


@pytest.mark.parametrize("position", [0, 1, 3_599_999, 36_000_001, 2**31 + 7])
def test_angles_are_exact_wherever_a_stream_is(position: Any) -> None:
    table = sinusoidal(torch.tensor([position]), 64)[0]
    exact = [exact_angle(position, j, 32) for j in range(32)]
    found = zip(table[:32].tolist(), table[32:].tolist(), exact, strict=True)
    # float32 has 6e-8; float64 knows 2^31 radians to 5e-7.
    bound = 1e-7 if position < 10**8 else 1e-6
    assert all(abs(sine - math.sin(x)) < bound and abs(cosine - math.cos(x)) < bound for sine, cosine, x in found)
    turned = rotary(torch.ones(1, 1, 1, 64), torch.tensor([position]))[0, 0, 0]
    expected = [math.cos(x) - math.sin(x) for x in exact] + [math.cos(x) + math.sin(x) for x in exact]
    assert turned.tolist() == pytest.approx(expected, abs=3 * bound)


def test_a_learned_table_ends_and_says_so() -> None:
    encoder = soaked("learned")
    state = replace(encoder.initial_state(), frames=49 * PUSH)
    _, state = encoder.step(frames_of(0), state)
    with pytest.raises(
        ValueError, match=r'end at frame 50000, and the audio has 51000 frames.*position_encoding="relative"'
    ):
        encoder.step(frames_of(1), state)
    assert encoder.flush(state).shape[1] > 0, "what came in before is not lost"

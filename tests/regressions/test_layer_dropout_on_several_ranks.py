"""A block that one rank skips has no gradient there, and DistributedDataParallel waits for the gradient of every one.

The next step stopped with "Expected to have finished reduction in the prior iteration before starting a new one".
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import speechattn as sa

CONFIG = sa.EncoderConfig(6, d_model=8, num_heads=2, num_layers=3, context=sa.Context(2, 2), layer_dropout=0.5)

TWO_RANKS = r"""
import copy, os, sys
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
import speechattn as sa

def work(rank):
    distributed.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=rank, world_size=2)
    torch.manual_seed(0)
    config = sa.EncoderConfig(6, d_model=8, num_heads=2, num_layers=3, context=sa.Context(2, 2), layer_dropout=0.5)
    alone = sa.Encoder(config)
    together = DistributedDataParallel(copy.deepcopy(alone))
    skipped = 0
    for step in range(6):
        for encoder in (alone, together):
            torch.manual_seed(10 * step + rank)  # the ranks skip blocks of their own
            encoder.zero_grad()
            encoder(torch.randn(2, 20, 6))[0].square().sum().backward()
        for (name, parameter), other in zip(alone.named_parameters(), together.parameters()):
            mean = parameter.grad.clone()
            skipped += not mean.any() and name.endswith("attention.output.weight")
            distributed.all_reduce(mean)
            torch.testing.assert_close(other.grad, mean / 2)
    os.write(1, f"{rank} {skipped}\n".encode())
    if rank:
        os._exit(0)

child = os.fork()  # torch is imported once
if not child:
    work(1)
try:
    work(0)
finally:
    os.waitpid(child, 0)
"""


@pytest.mark.slow  # two processes, in each of which DistributedDataParallel imports torch's compiler
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_two_ranks_that_skip_blocks_of_their_own_have_the_mean_of_their_gradients(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWO_RANKS, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
    )
    lines = sorted(line.split() for line in done.stdout.splitlines())
    assert [line[0] for line in lines] == ["0", "1"], done.stderr
    assert all(int(line[1]) > 0 for line in lines)  # blocks were skipped


def gradients(seed: int) -> Any:
    torch.manual_seed(0)
    encoder = sa.Encoder(CONFIG)
    frames = torch.randn(1, 9, 6)
    torch.manual_seed(seed)
    output = encoder(frames)[0]
    output.square().sum().backward()
    return output, {name: parameter.grad for name, parameter in encoder.named_parameters()}


def test_alone_a_skipped_block_stays_without_gradient_and_among_ranks_it_has_zeros(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, alone = gradients(seed=3)
    skipped = {name for name, gradient in alone.items() if gradient is None}
    assert skipped and len(skipped) % 13 == 0 and all(name.startswith("blocks.") for name in skipped)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    same, ranked = gradients(seed=3)
    torch.testing.assert_close(same, output)
    for name, gradient in ranked.items():
        torch.testing.assert_close(gradient, torch.zeros_like(gradient) if name in skipped else alone[name])

"""The counter of tensors against sums made by hand: every storage once, from birth to death."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from speechattn.profiling.tensor_memory import PeakTensors

KB = 1000
"""Bytes of a tensor of 250 floats."""


def test_what_lives_together_counts_together() -> None:
    x = torch.zeros(250)
    with PeakTensors([x]) as counted:
        a = x + 1
        b = a + 1
        assert counted.alive_bytes == 2 * KB
        del a
        assert counted.alive_bytes == KB
        c = b * 2
        del b, c
    assert (counted.peak_bytes, counted.alive_bytes) == (2 * KB, 0)


def test_a_chain_holds_what_goes_in_and_what_comes_out() -> None:
    x = torch.zeros(250)
    with PeakTensors([x]) as counted:
        for _ in range(10):
            x = x + 1
    assert counted.peak_bytes == 2 * KB and counted.alive_bytes == KB


def test_views_and_work_in_place_cost_nothing() -> None:
    x = torch.zeros(10, 25)
    with PeakTensors([x]) as counted:
        views = [x[3], x.T, x.view(-1), x.expand(4, 10, 25), x.unfold(1, 5, 1)]
        x.add_(1)
        x[2].fill_(4.0)
        assert counted.peak_bytes == 0
        made = x.contiguous().clone()
        views += [made[0], made.transpose(0, 1), *torch.split(made, 2)]
        del made
        assert counted.alive_bytes == KB, "a view keeps the whole storage"
    assert counted.peak_bytes == KB


def test_other_types_and_sizes_that_change() -> None:
    with PeakTensors() as counted:
        grown = torch.zeros(10, dtype=torch.float64)
        assert counted.alive_bytes == 80
        grown.resize_(100)
        assert counted.alive_bytes == 800
        flags = torch.ones(7, dtype=torch.bool)
        low = torch.ones(3, dtype=torch.bfloat16)
        assert counted.alive_bytes == 800 + 7 + 6
        empty = torch.empty(0)
    assert counted.peak_bytes == 813 and empty.numel() == 0 and flags.all() and low.all()


def test_what_numpy_made_counts_when_it_is_used() -> None:
    with PeakTensors() as counted:
        made = torch.from_numpy(np.zeros(500, np.float32)).view(2, 250)
        assert counted.alive_bytes == 2 * KB
        out = made[0] + 1
        del made
        assert counted.alive_bytes == KB
    assert counted.peak_bytes == 3 * KB and out.numel() == 250


def test_what_autograd_keeps_counts_until_backward_is_done() -> None:
    x, weight = torch.ones(250), torch.ones(250, requires_grad=True)
    with PeakTensors([x, weight]) as counted:
        hidden = x * weight  # saves x, which is known
        hidden = hidden.exp()  # saves its result
        hidden = hidden.exp()
        loss = hidden.sum()
        del hidden
        assert counted.alive_bytes == 2 * KB + 4, "both results, and the loss"
        assert counted.peak_bytes == 2 * KB + 4
        torch.autograd.backward(loss)
        assert counted.alive_bytes == KB + 4, "the gradient of the weight, and the loss"
    assert weight.grad is not None


def test_a_gradient_that_was_there_is_added_to() -> None:
    weight = torch.ones(250, requires_grad=True)
    weight.grad = torch.zeros(250)
    with PeakTensors([weight, weight.grad]) as counted:
        torch.autograd.backward((weight * 2).sum())
        assert counted.alive_bytes == 0
    assert counted.peak_bytes >= KB and weight.grad.eq(2).all()


def test_checkpointing_keeps_less() -> None:
    layers = nn.ModuleList(nn.Sequential(nn.Linear(25, 25), nn.Sigmoid(), nn.Tanh()) for _ in range(6))

    def peak_bytes(saving: bool) -> int:
        x = torch.zeros(1000, 25, requires_grad=True)
        for parameter in layers.parameters():
            parameter.grad = torch.zeros_like(parameter)
        grads = [parameter.grad for parameter in layers.parameters() if parameter.grad is not None]
        with PeakTensors([x, *layers.parameters(), *grads]) as counted:
            hidden = x
            for layer in layers:
                hidden = checkpoint(layer, hidden, use_reentrant=False) if saving else layer(hidden)
            torch.autograd.backward(hidden.sum())
        peak: int = counted.peak_bytes
        return peak

    assert peak_bytes(saving=True) < 0.75 * peak_bytes(saving=False)


def test_tensors_without_a_storage_are_let_through() -> None:
    with PeakTensors() as counted:
        sparse = torch.eye(4).to_sparse()
        assert (sparse + sparse).to_dense().sum() == 8
        meta = torch.empty(1000, device="meta") + 1
    assert meta.shape == (1000,) and counted.peak_bytes < KB


def test_counting_changes_no_number() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True).eval()
    x = torch.randn(2, 9, 16)
    expected = layer(x)
    with PeakTensors([x, *layer.parameters()]):
        found = layer(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)

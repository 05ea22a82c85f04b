"""Calibration of this machine: fit five rates to the times of short encoders.

The rates are those of planning/machine_speed.py, fitted by least squares of the relative errors, none of them
negative. The encoders differ in their largest cost: products, wide windows, wide feed-forward layers, convolutions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder
from speechattn.planning.flops import Work, work
from speechattn.planning.machine_speed import Machine, Rates
from speechattn.system.machine_info import processor

FRAMES, TRAINED = 6000, 4000
STEPS, PUSH = 8, 16
SECONDS = 5.0
_BASE = EncoderConfig(input_dim=64, num_layers=1, d_ff=512, context=Context.truncated(32, 32), dropout=0.0)
PROBES = (
    _BASE,
    replace(_BASE, context=Context.truncated(4, 4)),
    replace(_BASE, context=Context.truncated(256, 256)),
    replace(_BASE, context=Context.chunked(32, left=128)),
    replace(_BASE, d_ff=2048),
    replace(_BASE, d_model=512, num_heads=8, d_ff=1024),
    replace(_BASE, d_model=128, num_heads=2, d_ff=1024, num_layers=2),
    replace(_BASE, block="conformer", conv_kernel=5),
    replace(_BASE, block="conformer", conv_kernel=31),
)


def calibrate(seconds: float = SECONDS, threads: int = 1) -> Machine:
    """Return the rates of this machine on the CPU in float32, measured for `seconds`.

    On one thread CPU time is measured, which depends less on other programs.
    """
    clock = time.thread_time if threads == 1 else time.perf_counter
    before, random = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    try:
        encoders = [Encoder(config) for config in PROBES]
        x = torch.randn(1, FRAMES, _BASE.input_dim)
        forward = [_inferring(encoder, x) for encoder in encoders]
        both = [_training(encoder, x[:, :TRAINED]) for encoder in encoders]
        step = _stepping(encoders[0], x)
        least = _least_times([*forward, *both, step], seconds, clock)
    finally:
        torch.set_num_threads(before)
        torch.set_rng_state(random)
    works = [work(config, FRAMES) for config in PROBES]
    inference = fit_rates(works, least[: len(PROBES)])
    training = fit_rates([work(config, TRAINED) for config in PROBES], least[len(PROBES) : -1])
    step_s = max(0.0, least[-1] / STEPS - inference.seconds(work(_BASE, PUSH)))
    return Machine(processor(), threads, inference, training, step_s)


def fit_rates(works: Sequence[Work], seconds: Sequence[float]) -> Rates:
    """Return the rates, 0 or more, that fit `seconds` of `works` by least squares of relative errors."""
    table = np.array([_units(each) for each in works], float) / np.array(seconds)[:, None]
    scale = table.max(0)
    scale[scale == 0] = 1.0
    chosen = np.ones(table.shape[1], bool)
    while True:  # drop the most negative rate until all are 0 or more
        rates = np.zeros(table.shape[1])
        rates[chosen] = np.linalg.lstsq(table[:, chosen] / scale[chosen], np.ones(len(works)), rcond=None)[0]
        if (rates >= 0).all():
            return Rates(*(rates / scale).tolist())
        chosen[rates.argmin()] = False


def _units(each: Work) -> tuple[int, ...]:
    return sum(each.products.values()), each.attended, each.queries, each.numbers, each.taps


def _least_times(jobs: Sequence[Callable[[], object]], seconds: float, clock: Callable[[], float]) -> list[float]:
    """Return the minimum time of each job over at least two rounds of all jobs."""
    least, begun, rounds = [float("inf")] * len(jobs), time.perf_counter(), 0
    for job in jobs:
        job()
    while rounds < 2 or time.perf_counter() - begun < seconds:
        for n, job in enumerate(jobs):
            started = clock()
            job()
            least[n] = min(least[n], clock() - started)
        rounds += 1
    return least


def _inferring(encoder: Encoder, x: Tensor) -> Callable[[], object]:
    @torch.no_grad()
    def run() -> object:
        return encoder.eval()(x)

    return run


def _training(encoder: Encoder, x: Tensor) -> Callable[[], object]:
    def run() -> None:
        hidden, _ = encoder.train()(x)
        hidden.backward(torch.ones_like(hidden))

    return run


def _stepping(encoder: Encoder, x: Tensor) -> Callable[[], object]:
    def run() -> None:
        encoder.eval()
        state = encoder.initial_state()
        for begin in range(0, STEPS * PUSH, PUSH):
            _, state = encoder.step(x[:, begin : begin + PUSH], state)

    return run

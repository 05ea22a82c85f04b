"""The fit of a calibration is exact where the rates explain the times, and never negative."""

from __future__ import annotations

import pytest

from speechattn.planning.flops import work
from speechattn.planning.machine_speed import Rates
from speechattn.profiling.calibrate import FRAMES, PROBES, calibrate, fit_rates

WORKS = [work(config, FRAMES) for config in PROBES]


def test_rates_are_found_again() -> None:
    rates = Rates(products=6e-12, attended=8e-12, queries=4e-9, numbers=1e-9, taps=2e-10)
    found = fit_rates(WORKS, [rates.seconds(each) for each in WORKS])
    for name, rate in vars(rates).items():
        assert getattr(found, name) == pytest.approx(rate, rel=1e-6)


def test_no_rate_is_negative() -> None:
    rates = Rates(products=6e-12, attended=8e-12, queries=-4e-10, numbers=1e-9, taps=-2e-10)
    found = fit_rates(WORKS, [rates.seconds(each) for each in WORKS])
    assert min(vars(found).values()) == 0.0
    for each in WORKS:
        assert found.seconds(each) == pytest.approx(rates.seconds(each), rel=0.2)


@pytest.mark.slow
def test_a_calibration_of_this_machine() -> None:
    machine = calibrate(seconds=0.1)
    assert machine.inference.products > 0 and machine.training.products > machine.inference.products
    assert machine.step_s >= 0 and machine.threads == 1

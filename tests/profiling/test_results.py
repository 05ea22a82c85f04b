"""What is written is what is read back, CSV and JSON say the same, and growth is exact where growth is known."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest

from speechattn.errors import UserError
from speechattn.profiling.growth import power
from speechattn.profiling.results import Growth, read_profile

LENGTHS = (10.0, 60.0, 600.0, 3600.0)
Make = Callable[..., Any]


def test_what_is_written_is_read_back(tmp_path: Path, make_profile: Make) -> None:
    before = make_profile(mode="training")
    before.write(tmp_path)
    after = read_profile(tmp_path / "profile.json")
    assert after == before
    assert not list(tmp_path.glob("*.tmp-*"))


def test_csv_and_json_say_the_same(tmp_path: Path, make_profile: Make) -> None:
    make_profile().write(tmp_path)
    data = json.loads((tmp_path / "profile.json").read_text())
    rows = list(csv.DictReader(io.StringIO((tmp_path / "profile.csv").read_text())))
    assert len(rows) == len(data["points"]) == 9
    for row, point in zip(rows, data["points"], strict=True):
        assert set(row) == set(point)
        for name, value in point.items():
            printed = "x".join(map(str, value)) if name == "output" and value else "" if value is None else str(value)
            assert row[name] == printed, name
    assert data["machine"]["cpu"] == "a processor" and data["settings"]["config"]["d_model"] == 8
    assert data["longest_s"] == {"truncated": 3600.0, "full": 60.0, "emformer": None}
    assert data["growth"]["full"]["seconds"] == pytest.approx(2.0)


def test_growth_is_exact_where_it_is_known(make_profile: Make) -> None:
    found = make_profile()
    linear = found.growth("truncated")
    assert astuple(linear) == pytest.approx((1.0, 1.0, 1.0), abs=1e-9)
    full = found.growth("full")
    assert full.seconds == pytest.approx(2.0, abs=1e-9) and full.peak_extra_bytes == pytest.approx(2.0, abs=1e-9)
    assert found.growth("emformer") == Growth(None, None, None), "nothing ran"
    for exponent in (0.0, 0.5, 1.0, 1.7, 3.0):
        assert power(LENGTHS, [7 * x**exponent for x in LENGTHS]) == pytest.approx(exponent, abs=1e-9)


def test_memory_below_the_noise_tells_no_growth(make_profile: Make, make_point: Make) -> None:
    found = make_profile()
    found.points = [make_point("streaming", audio_s, 0.0) for audio_s in LENGTHS]  # 1 MB each, 2 MB of tensors
    growth = found.growth("streaming")
    assert growth.peak_extra_bytes is None and growth.peak_tensor_bytes == pytest.approx(0.0, abs=1e-9)
    found.points = [replace(point, peak_extra_bytes=5_000_000) for point in found.points]
    assert found.growth("streaming").peak_extra_bytes == pytest.approx(0.0, abs=1e-9)


def test_the_longest_that_was_survived_and_the_first_that_was_not(make_profile: Make) -> None:
    found = make_profile()
    longest, failure = found.longest("full"), found.failure("full")
    assert longest is not None and longest.audio_s == 60.0
    assert failure is not None and (failure.audio_s, failure.status) == (600.0, "out of memory")
    assert found.failure("truncated") is None and found.longest("emformer") is None


def lasts_s(make_profile: Make, make_point: Make, sizes: dict[float, float], size: float = 1e9) -> float | None:
    """What `size` bytes last for by a profile whose extra memory is `sizes` bytes by seconds, its tensors half."""
    found = make_profile()
    found.points = [
        make_point("one", seconds, 1.0, peak_extra_bytes=round(extra), peak_tensor_bytes=round(extra / 2))
        for seconds, extra in sizes.items()
    ]
    lasts: float | None = found.lasts_s("one", size)
    return lasts


def test_what_a_gigabyte_lasts_for(make_profile: Make, make_point: Make) -> None:
    found = make_profile()
    assert found.lasts_s("truncated") == pytest.approx(1000.0), "1 MB a second"
    assert found.lasts_s("truncated", 5e9) == pytest.approx(5000.0)
    assert found.lasts_s("full") == pytest.approx(math.sqrt(1000.0)) and found.lasts_s("emformer") is None
    found.points = [make_point("streaming", audio_s, 0.0, peak_extra_bytes=10**7 + 10**6) for audio_s in LENGTHS]
    assert found.lasts_s("streaming") == math.inf
    found.points = found.points[:1]
    assert found.lasts_s("streaming") is None


@pytest.mark.parametrize("lengths", [(10.0, 60.0), (10.0, 60.0, 600.0), LENGTHS])
def test_a_gigabyte_lasts_for_what_is_left_of_it_beside_the_constant(
    make_profile: Any, make_point: Any, lengths: tuple[float, ...]
) -> None:
    """300 MB and 1 kB a frame, 100 frames a second: 700,000 frames. A power through 10 s and 60 s gave 12 days."""
    sizes = {seconds: 3e8 + 1e5 * seconds for seconds in lengths}
    assert lasts_s(make_profile, make_point, sizes) == pytest.approx(7000.0)
    assert lasts_s(make_profile, make_point, sizes, 1e10) == pytest.approx(97_000.0)
    assert lasts_s(make_profile, make_point, sizes, 2e8) == 0.0, "less than every call needs"


def test_a_gigabyte_of_scores_lasts_for_the_root_of_it(make_profile: Any, make_point: Any) -> None:
    sizes = {seconds: 1e8 + 1e6 * seconds + 1e4 * seconds**2 for seconds in LENGTHS}
    assert lasts_s(make_profile, make_point, sizes) == pytest.approx(math.sqrt(50**2 + 9e4) - 50)
    pairs = {seconds: 1e5 * seconds + 1e6 * seconds**2 for seconds in LENGTHS[:2]}
    assert lasts_s(make_profile, make_point, pairs) == pytest.approx(31.57, abs=0.01), "no constant, two lengths"


def test_equal_memory_lasts_equally_long_whatever_grew_in_it(make_profile: Any, make_point: Any) -> None:
    """Two encoders with the same megabytes were given 2.2 h and 26 min, as the tensors of one were fewer."""
    found = make_profile()
    found.points = [
        make_point(name, seconds, 1.0, peak_extra_bytes=extra, peak_tensor_bytes=extra - hidden)
        for name, hidden in (("one", 0), ("other", 9_000_000))
        for seconds, extra in ((10.0, 14_000_000), (60.0, 41_000_000))
    ]
    assert found.lasts_s("one") == pytest.approx(10 + 986 / 27 * 50)
    assert found.lasts_s("other") == found.lasts_s("one")


@pytest.mark.parametrize(
    "sizes",
    [
        {10.0: 3e8, 60.0: 2e8, 600.0: 4e8},
        {10.0: 4e8, 60.0: 2e8},
        {10.0: 1e8, 60.0: 5e8, 600.0: 6e8, 3600.0: 5e9},
        {10.0: 3e8, 60.0: 3.015e8},
    ],
    ids=["down and up", "down", "steps", "below the noise"],
)
def test_what_no_curve_explains_is_unknown(make_profile: Any, make_point: Any, sizes: Any) -> None:
    assert lasts_s(make_profile, make_point, sizes) is None


def test_points_stay_in_order_and_the_newer_counts(make_profile: Make, make_point: Make) -> None:
    found = make_profile()
    found.put(make_point("full", 5.0, 2.0))
    found.put(make_point("truncated", 600.0, 1.0, note="again"))
    assert [point.audio_s for point in found.of("full")] == [5.0, 10.0, 60.0, 600.0, 3600.0]
    assert [point.note for point in found.of("truncated")] == ["", "", "again", ""]
    assert found.encoders == ["truncated", "full", "emformer"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[1, 2]", "is not a profile"),
        ('{"kind": "something"}', "is not a profile"),
        ('{"kind": "speechattn profile", "format": 99}', "has format 99; this speechattn reads format 1"),
        ('{"kind": "speechattn profile", "format": 1}', "damaged profile: machine, method or points are missing"),
    ],
)
def test_what_is_no_profile_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_profile(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["settings", "status", "extra", "type"])
def test_a_damaged_profile_is_refused(tmp_path: Path, damage: str, make_profile: Make) -> None:
    make_profile().write(tmp_path)
    data = json.loads((tmp_path / "profile.json").read_text())
    point = data["points"][0]
    if damage == "settings":
        del data["settings"]
    elif damage == "status":
        del point["status"]
    elif damage == "extra":
        point["something"] = 1
    else:
        point["seconds"] = "fast"
    (tmp_path / "profile.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match="damaged profile"):
        read_profile(tmp_path / "profile.json")


def test_the_recorded_profile_of_the_documentation_can_be_read() -> None:
    recorded = read_profile(Path(__file__).parents[2] / "docs" / "data" / "lengths.json")
    assert recorded.settings.config.position_encoding == "none"


def test_an_old_setting_in_a_profile_is_named_with_its_new_name(tmp_path: Path, make_profile: Make) -> None:
    make_profile().write(tmp_path)
    path = tmp_path / "profile.json"
    path.write_text(path.read_text().replace('"position_encoding"', '"positions"'))
    with pytest.raises(UserError, match=r"no setting 'positions': use 'position_encoding'\. Give the profile\.json"):
        read_profile(path)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_profile(tmp_path / "absent.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not JSON"):
        read_profile(tmp_path / "binary.json")

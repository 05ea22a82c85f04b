"""What an alignment keeps on disk comes back as it was written, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from speechattn.alignment.acoustic_model import NUM_MELS, make_acoustic_model
from speechattn.alignment.store import AlignedParts, Part, load_part, load_round, save_part, save_round
from speechattn.alignment.times import AlignedUtterance
from speechattn.data.labels.segments import Segment
from speechattn.errors import UserError


def aligned(id: str) -> AlignedUtterance:
    phones = [Segment(0.0, 0.1 / 3, "SIL"), Segment(0.1 / 3, 0.07, "AH")]
    return AlignedUtterance(id, phones, [Segment(0.1 / 3, 0.07, "ä")], -0.1)


PART = Part({"a-1": aligned("a-1"), "a-2": aligned("a-2")}, {"b-\udcff": "cannot be decoded: x\udcff"})


def test_a_part_comes_back_as_it_was(tmp_path: Path) -> None:
    save_part(tmp_path / "part.json", PART)
    assert load_part(tmp_path / "part.json") == PART


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "empty"])
def test_a_damaged_part_is_not_read(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "part.json"
    save_part(path, PART)
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-9], "flipped": data.replace(b"AH", b"AA"), "empty": b""}[damage])
    assert load_part(path) is None


def test_alignments_are_read_in_order_and_one_part_at_a_time(tmp_path: Path) -> None:
    parts = {}
    for number in range(3):
        part = Part({id: aligned(id) for id in (f"{number}-x", f"{number}-a")}, {})
        save_part(tmp_path / f"{number}", part)
        parts[tmp_path / f"{number}"] = list(part.aligned)
    found = AlignedParts(parts)
    assert list(found) == ["0-x", "0-a", "1-x", "1-a", "2-x", "2-a"] and len(found) == 6
    assert [each.id for each in found.values()] == list(found)
    assert "3-x" not in found and found["1-a"] == aligned("1-a")


def test_a_round_comes_back_as_it_was(tmp_path: Path) -> None:
    model = make_acoustic_model([torch.randn(50, NUM_MELS)], seed=3)
    prior = torch.randn(41)
    save_round(tmp_path / "round-0", model, prior)
    loaded = load_round(tmp_path / "round-0")
    assert loaded is not None and torch.equal(loaded[1], prior)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded[0].state_dict()[name], tensor)


@pytest.mark.parametrize("damage", ["missing", "prior", "flipped", "unfinished"])
def test_a_damaged_round_is_not_read(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "round-0"
    if damage != "missing":
        save_round(folder, make_acoustic_model([torch.randn(50, NUM_MELS)], seed=3), torch.zeros(41))
    if damage == "prior":
        (folder / "prior.json").write_text("[1]")
    elif damage == "unfinished":
        (folder / "prior.json").unlink()
    elif damage == "flipped":
        weights = bytearray((folder / "model.safetensors").read_bytes())
        weights[-5] ^= 1
        (folder / "model.safetensors").write_bytes(weights)
    assert load_round(folder) is None


def test_a_place_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/part cannot be written .* free\. .* run the same command again"):
        save_part(tmp_path / "file" / "part", PART)
    model = make_acoustic_model([torch.randn(50, NUM_MELS)], seed=3)
    with pytest.raises(UserError, match=r"file/round-0 cannot be written"):
        save_round(tmp_path / "file" / "round-0", model, torch.zeros(41))

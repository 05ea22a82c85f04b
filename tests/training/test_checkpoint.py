"""Checkpoints survive kills at every moment, full disks and flipped bits. All comparisons are bit for bit."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from speechattn.errors import UserError
from speechattn.system.atomic_files import write_synced
from speechattn.training.checkpoint import load_checkpoint, save_checkpoint

ROOT = Path(__file__).parents[2]


def groups(step: int) -> dict[str, dict[str, Tensor]]:
    """Two groups whose numbers are all the step."""
    return {"model": {"w": torch.full((40, 5), float(step)), "b": torch.tensor(step)}, "average": {"w": torch.ones(3)}}


def save(directory: Path, step: int, keep: int = 2) -> Path:
    return save_checkpoint(directory, step, groups(step), {"epoch": step // 10}, keep)


def loaded_step(directory: Path) -> int | None:
    """The step that loads, after a look at whether its content is of that step."""
    found = load_checkpoint(directory)
    if found is None:
        return None
    assert torch.equal(found.tensors["model"]["w"], groups(found.step)["model"]["w"])
    assert found.state == {"epoch": found.step // 10}
    return found.step


def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    odd = torch.randn(6, 4)
    tensors = {
        "model": {
            "float": torch.tensor([float("nan"), float("-inf"), -0.0, 1e-45]),
            "half": torch.randn(3).bfloat16(),
            "empty": torch.zeros(0, 3),
            "scalar": torch.tensor(2**53 + 1),
            "bool": torch.tensor([True, False]),
            "transposed": odd.t(),
            "tied": odd,
        },
        "none": {},
    }
    path = save_checkpoint(tmp_path, 1230, tensors, {"loss": 0.1, "text": "ä\n", "list": [1, None]})
    assert path == tmp_path / "step-00001230"
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.path, found.state) == (1230, path, {"loss": 0.1, "text": "ä\n", "list": [1, None]})
    assert found.tensors.keys() == tensors.keys()
    for group, named in tensors.items():
        assert found.tensors[group].keys() == named.keys()
        for name, tensor in named.items():
            back = found.tensors[group][name]
            assert back.dtype == tensor.dtype and back.shape == tensor.shape
            assert back.contiguous().flatten().view(torch.uint8).equal(tensor.contiguous().flatten().view(torch.uint8))


def test_the_folder_holds_what_the_protocol_says(tmp_path: Path) -> None:
    path = save(tmp_path, 7)
    assert {entry.name for entry in path.iterdir()} == {
        "model.safetensors",
        "average.safetensors",
        "state.json",
        "SHA256SUMS",
    }
    for line in (path / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest
    assert (tmp_path / "latest").read_text() == "step-00000007\n"


def test_nothing_there_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "absent") is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (1, 20, 100_000_000, 100_000_001):
        save(tmp_path, step)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-100000000", "step-100000001"]
    assert loaded_step(tmp_path) == 100_000_001


def test_a_later_checkpoint_is_neither_counted_nor_removed(tmp_path: Path) -> None:
    """A run that fell back to step 20 because step 30 is damaged must not lose step 20 to the damaged one."""
    save(tmp_path, 20)
    (save(tmp_path, 30) / "state.json").write_text("{}")
    save(tmp_path, 25)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000020", "step-00000025", "step-00000030"]


def test_the_same_step_again_replaces(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 5, {"old": {"w": torch.zeros(1)}}, {})
    save(tmp_path, 5)
    assert loaded_step(tmp_path) == 5
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000005"]


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [truncate, flip, remove])
@pytest.mark.parametrize("name", ["model.safetensors", "average.safetensors", "state.json", "SHA256SUMS"])
def test_a_damaged_file_is_named_and_the_older_checkpoint_loads(
    tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    damage(path / name)
    file = "SHA256SUMS|is missing" if name == "SHA256SUMS" else name
    with pytest.warns(UserWarning, match=rf"Skipped the damaged checkpoint .*step-00000002: .*({file})"):
        assert loaded_step(tmp_path) == 1


def test_all_damaged_is_none_and_each_is_said(tmp_path: Path) -> None:
    for step in (1, 2):
        flip(save(tmp_path, step) / "model.safetensors")
    with pytest.warns(UserWarning) as caught:
        assert load_checkpoint(tmp_path) is None
    assert len(caught) == 2


def test_a_dropped_line_of_sums_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    lines = (path / "SHA256SUMS").read_text().splitlines(keepends=True)
    (path / "SHA256SUMS").write_text("".join(line for line in lines if "average" not in line))
    with pytest.warns(UserWarning, match=r"average\.safetensors is not named"):
        assert load_checkpoint(tmp_path) is None


@pytest.mark.parametrize("name", ["../outside.safetensors", "model.pkl", "/etc/hostname"])
def test_sums_name_files_of_a_checkpoint_only(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, 1)
    with (path / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  {name}\n")
    with pytest.warns(UserWarning, match="no sum"):
        assert load_checkpoint(tmp_path) is None


def test_a_pickle_with_a_right_sum_is_not_opened(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    payload = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."
    sums = (path / "SHA256SUMS").read_text()
    old = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    (path / "model.safetensors").write_bytes(payload)
    (path / "SHA256SUMS").write_text(sums.replace(old, hashlib.sha256(payload).hexdigest()))
    with pytest.warns(UserWarning, match=r"model\.safetensors is not what its name says"):
        assert load_checkpoint(tmp_path) is None


def test_a_folder_renamed_to_another_step_is_not_believed(tmp_path: Path) -> None:
    save(tmp_path, 3).rename(tmp_path / "step-00000009")
    with pytest.warns(UserWarning, match="of step 3, expected format 1 of step 9"):
        assert load_checkpoint(tmp_path) is None


def test_leftovers_go_but_not_those_of_a_living_process(tmp_path: Path) -> None:
    save(tmp_path, 1)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getppid()):
        (tmp_path / f"step-00000002.tmp-{pid}").mkdir()
    (tmp_path / f"latest.tmp-{dead.pid}").write_text("")
    assert loaded_step(tmp_path) == 1
    assert [path.name for path in tmp_path.glob("*.tmp-*")] == [f"step-00000002.tmp-{os.getppid()}"]


@pytest.mark.parametrize("failing_write", range(4))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_full_disk_leaves_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_write: int, code: int
) -> None:
    save(tmp_path, 1)
    write, count = write_synced, iter(range(100))

    def full(path: Path, data: bytes) -> str:
        if next(count) == failing_write:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(code, os.strerror(code))
        return write(path, data)

    monkeypatch.setattr("speechattn.training.checkpoint.write_synced", full)
    with pytest.raises(UserError, match=r"step 2 cannot be written .* needs .* MB, .* MB are free.*intact"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step-00000001"]
    assert loaded_step(tmp_path) == 1
    save(tmp_path, 2)
    assert loaded_step(tmp_path) == 2


def test_too_little_space_is_an_error_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = sum(file.stat().st_size for file in save(tmp_path, 1).iterdir())
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2 * size - 1}))
    with pytest.raises(UserError, match=r"step 2 needs .* MB free in .*, but .* MB are free"):
        save(tmp_path, 2)
    assert loaded_step(tmp_path) == 1


def test_an_interrupted_save_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("speechattn.training.checkpoint.sync_directory", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written to .*file .*choose another --out,"):
        save(tmp_path / "file", 1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1, {}, {}), ValueError, "step >= 0"),
        ((1, {}, {}, 0), ValueError, "keep >= 1"),
        ((1, {"a/b": {}}, {}), ValueError, "file name"),
        ((1, {}, {"x": torch.zeros(1)}), TypeError, "JSON"),
    ],
)
def test_wrong_arguments_are_refused_before_work(
    tmp_path: Path, arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        save_checkpoint(tmp_path, *arguments)
    assert list(tmp_path.iterdir()) == []


KILLED_SAVES = """
import os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from saves import loaded_step, save

TOUCHES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")

def in_child(step, place, prepare):
    child = os.fork()
    if child:
        return os.WIFEXITED(os.waitpid(child, 0)[1])
    prepare()
    save(place, step, keep=1)
    os._exit(0)

def kill_at_touch(number):
    count = 0
    def hook(event, arguments):
        nonlocal count
        if event in TOUCHES:  # os.kill is an event too
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

def kill_after(seconds):
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, seconds)

for step in (2, 1):  # the next step; the same step a second time
    seen, number, ended = [], 0, False
    while not ended:
        number += 1
        place = Path(sys.argv[2]) / f"{step}-{number}"
        save(place, 1, keep=1)
        ended = in_child(step, place, lambda: kill_at_touch(number))
        seen.append(loaded_step(place))
        assert not list(place.glob("*.tmp-*")), f"leftovers after a kill at touch {number}"
    assert number > 10 and set(seen) == {1, step} and seen == sorted(seen), seen

place = Path(sys.argv[2]) / "random"
started = time.perf_counter()
save(place, 0, keep=1)
duration = time.perf_counter() - started
chance, last = random.Random(0), 0
for step in range(1, 31):
    in_child(step, place, lambda: kill_after(chance.uniform(1e-4, 1.5 * duration)))
    found = loaded_step(place)
    assert found in (last, step), (last, found, step)
    last = found
"""


def test_kill_9_at_every_moment_of_a_save(tmp_path: Path) -> None:
    """The child dies at its first, second, ... touch of the file system, then at random times: always a whole one."""
    (tmp_path / "saves.py").write_text(Path(__file__).read_text())
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLED_SAVES, str(tmp_path), str(tmp_path / "runs")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr

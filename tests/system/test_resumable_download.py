"""A large file arrives whole whatever the server does, or what has arrived is kept; all on loopback."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from file_server import FileServer, serve

from speechattn.errors import UserError
from speechattn.system import resumable_download
from speechattn.system.resumable_download import fetch, sha256_of

DATA = bytes(range(256)) * 4000  # four blocks


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(resumable_download, "PAUSES_S", (0.0,) * 4)
    with serve({"x": DATA}) as offer:
        yield offer


def arrive(server: FileServer, path: Path, name: str = "x") -> None:
    fetch(f"{server.url}/{name}", path, len(DATA), progress=False)


def test_a_connection_that_is_lost_again_and_again_is_continued(server: FileServer, tmp_path: Path) -> None:
    server.cut = [1, 300_000, 0, 5, 500_000, 7, 7, 0, 0, 7]
    arrive(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
    assert server.asked[:5] == [None, "bytes=1-", "bytes=300001-", "bytes=300001-", "bytes=300006-"]
    assert len(server.asked) == 11


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("says_length", [True, False])
def test_a_half_file_is_completed(server: FileServer, tmp_path: Path, ranges: bool, says_length: bool) -> None:
    (tmp_path / "x").write_bytes(DATA[:1000])
    server.ranges, server.says_length = ranges, says_length
    arrive(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
    assert server.asked == ["bytes=1000-"]


def test_a_server_that_falls_silent_is_asked_again(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable_download, "TIMEOUT_S", 0.5)
    server.stall = 600_000
    arrive(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
    assert server.asked == [None, "bytes=600000-"]


def test_a_whole_file_asks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(DATA)
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("asked"))
    fetch("http://nowhere.invalid/x", tmp_path / "x", len(DATA), progress=False)


def test_a_server_without_ranges_that_closes_early_is_given_up(server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.cut = False, [1000] * 9
    with pytest.raises(
        UserError, match=r"did not arrive completely \(the server closed .*\)\. 1 KB are kept in .*x: run again"
    ):
        arrive(server, tmp_path / "x")
    assert len(server.asked) == 5
    server.cut = []
    arrive(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_busy_server_is_asked_again_and_a_refusal_ends_it(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.status = [503, 429]
    fetch(f"{server.url}/x", tmp_path / "x", len(DATA), progress=True)
    assert (tmp_path / "x").read_bytes() == DATA
    assert re.search(r"HTTP Error 503: .*; next try in 0 s", capsys.readouterr().err)
    with pytest.raises(UserError, match=r"/y: the server answers 404 Not Found\. Check the address and the network\."):
        arrive(server, tmp_path / "y", "y")
    assert len(server.asked) == 4


def test_another_file_is_refused_before_a_byte_is_written(server: FileServer, tmp_path: Path) -> None:
    server.files["page"] = b"<html>Please log in</html>"
    with pytest.raises(UserError, match=r"is another file: the server has 26 bytes, expected 1024000\."):
        arrive(server, tmp_path / "x", "page")
    assert not (tmp_path / "x").exists()
    (tmp_path / "x").write_bytes(DATA[:10])
    with pytest.raises(UserError, match="is another file: the server has 26 bytes"):
        arrive(server, tmp_path / "x", "page")
    (tmp_path / "x").write_bytes(DATA[:100])
    with pytest.raises(UserError, match=r"answers 416 .*100 bytes are kept"):
        arrive(server, tmp_path / "x", "page")
    assert (tmp_path / "x").read_bytes() == DATA[:100]


def test_a_server_that_is_not_there_is_asked_three_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FileServer
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(resumable_download, "PAUSES_S", (1.0, 2.0, 4.0, 8.0))
    monkeypatch.setattr("time.sleep", pauses.append)
    with serve({}) as gone:
        address = gone.url
    with pytest.raises(
        UserError,
        match=r"did not arrive completely \(\[Errno \d+\] Connection refused\)\. Check the address and the network\.",
    ):
        fetch(f"{address}/x", tmp_path / "x", len(DATA), progress=False)
    assert pauses == [1.0, 2.0]


@pytest.mark.parametrize(
    "address", ["http://[::1/x", f"http://{'a' * 300}/x", "http://localhost/caf\u00e9/x", "http://localhost\udcff/x"]
)
def test_an_address_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path, address: str) -> None:
    with pytest.raises(UserError, match="cannot be fetched: "):
        fetch(address, tmp_path / "x", len(DATA), progress=False)


def test_a_length_without_end_is_an_error_of_one_line(
    tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = BaseHTTPRequestHandler.send_header
    monkeypatch.setattr(
        BaseHTTPRequestHandler,
        "send_header",
        lambda self, name, value: answer(self, name, "9" * 5000 if name == "Content-Length" else value),
    )
    with pytest.raises(UserError, match=r"cannot be fetched: .*Check the address"):
        arrive(server, tmp_path / "x")


def test_a_full_disk_keeps_what_has_arrived(server: FileServer, tmp_path: Path) -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("no /dev/full")
    (tmp_path / "x").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"The disk is full: 1\.02 MB of .*x are missing, .* free\. Free some space"):
        arrive(server, tmp_path / "x")
    assert len(server.asked) == 1
    with pytest.raises(UserError, match=r"absent/x cannot be written: .*No such file"):
        arrive(server, tmp_path / "absent" / "x")


def test_an_interruption_keeps_every_byte_that_arrived(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cut = [777]

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        arrive(server, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA[:777]


def test_the_sum_of_a_file_shows_its_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_bytes(DATA)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(DATA).hexdigest()
    assert "verifying x: 100%" in capsys.readouterr().err

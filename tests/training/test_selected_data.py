"""A run on some speakers, some hours, or a folder of own recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechattn.errors import ConfigError, DataError, UserError
from speechattn.system.stop_signal import StopSignal
from speechattn.training.config import TrainConfig
from speechattn.training.prepare import Data, prepare
from speechattn.training.run_folder import check_settings

SPEAKERS = ("ann", "ben", "cat", "dan", "eve")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder `mine` of five speakers with four recordings of 0.36 s each, and its alignments."""
    root = tmp_path_factory.mktemp("data")
    lines = []
    for number, speaker in enumerate(SPEAKERS):
        (root / "mine" / speaker).mkdir(parents=True)
        for i in range(4):
            id = f"{speaker}{i}"
            sound = np.random.default_rng([number, i]).uniform(-0.1, 0.1, 5760)
            soundfile.write(root / "mine" / speaker / f"{id}.wav", sound, 16_000)
            (root / "mine" / speaker / f"{id}.txt").write_text("ah\n")
            lines += [f"{id} 1 0 0.1 sil", f"{id} 1 0.1 0.26 AH1"]
    (root / "mine.phones.ctm").write_text("\n".join(lines) + "\n")
    return root


def config(data: Path, **changes: object) -> TrainConfig:
    settings: dict[str, object] = {"data": str(data / "mine"), "subset": ".", "alignments": str(data)}
    return TrainConfig.from_dict({**settings, "encoder": "linear", "num_mels": 10, **changes})


def prepared(config: TrainConfig) -> Data:
    with StopSignal() as stop:
        return prepare(config, stop)


def ids(data: Data) -> set[str]:
    return {example.utterance.id for example in (*data.train, *data.valid)}


def test_a_folder_of_own_recordings_is_training_data(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = prepared(config(data))
    assert ids(found) == {f"{speaker}{i}" for speaker in SPEAKERS for i in range(4)}
    assert "mine: 20 utterances, 5 speakers" in capsys.readouterr().out
    assert {e.utterance.speaker for e in found.train}.isdisjoint(e.utterance.speaker for e in found.valid)


def test_speakers_and_hours_choose_the_utterances_that_are_decoded(data: Path) -> None:
    assert ids(prepared(config(data, speakers=["eve", "ann"]))) == {f"{s}{i}" for s in ("ann", "eve") for i in range(4)}
    small = ids(prepared(config(data, max_hours=0.00051)))
    assert len(small) == 5 and {id[:3] for id in small} == set(SPEAKERS)
    assert small < ids(prepared(config(data, max_hours=0.00111)))


def test_a_selection_that_cannot_be_is_one_line(data: Path) -> None:
    with pytest.raises(DataError, match="no utterance of speaker 'anne': did you mean 'ann'"):
        prepared(config(data, speakers=["anne"]))
    with pytest.raises(DataError, match=r"needs at least 2 speakers, got 1 \(ann\)"):
        prepared(config(data, speakers=["ann"]))
    with pytest.raises(ConfigError, match="max_hours must be positive, got 0"):
        config(data, max_hours=0)


def test_the_selection_is_a_setting_of_the_run(data: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"speakers": ["ann", "ben"], "max_hours": 0.1}')
    check_settings(tmp_path, TrainConfig(speakers=("ben", "ann"), max_hours=0.1))
    with pytest.raises(UserError, match=r"max_hours was 0.1 and is 0.2"):
        check_settings(tmp_path, TrainConfig(speakers=("ann", "ben"), max_hours=0.2))
    with pytest.raises(UserError, match=r"speakers was \['ann', 'ben'\] and is \['ann'\]"):
        check_settings(tmp_path, TrainConfig(speakers=("ann",), max_hours=0.1))

"""The validation side of a run: by speaker or by utterance, chosen by a seed of its own."""

from dataclasses import replace

import pytest

from speechattn.data.synthetic.config import SyntheticConfig
from speechattn.data.synthetic.corpus import synthesize_corpus
from speechattn.errors import ConfigError
from speechattn.system.stop_signal import StopSignal
from speechattn.training.config import TrainConfig
from speechattn.training.prepare import Data, prepare


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    pytest.importorskip("espeakng_loader", reason="synthetic speech needs the extra [synth]")
    size = SyntheticConfig(train_utterances=12, test_utterances=2, train_speakers=4, test_speakers=2)
    folder = synthesize_corpus(tmp_path_factory.mktemp("cache"), size, progress=False)
    return TrainConfig(
        data=str(folder / "LibriSpeech"),
        alignments=str(folder / "alignments"),
        valid_fraction=0.3,
        cache=str(tmp_path_factory.mktemp("features")),
        workers=0,
    )


def data_of(config: TrainConfig) -> Data:
    with StopSignal() as stop:
        return prepare(config, stop)


def valid_ids(config: TrainConfig) -> set[str]:
    return {example.utterance.id for example in data_of(config).valid}


def test_a_split_by_utterance_shares_speakers_and_no_utterance(config: TrainConfig) -> None:
    for data, shared in ((data_of(config), False), (data_of(replace(config, split="utterances")), True)):
        train, valid = list(data.train), list(data.valid)
        common = {example.speaker for example in train} & {example.speaker for example in valid}
        assert common == ({example.speaker for example in valid} if shared else set())
        assert not {example.utterance.id for example in valid} & {example.utterance.id for example in train}
        assert len(train) + len(valid) == 12


def test_split_seed_alone_chooses_the_validation_side(config: TrainConfig) -> None:
    first = valid_ids(config)
    assert valid_ids(replace(config, seed=5, split_seed=0)) == first
    others = [valid_ids(replace(config, split_seed=seed)) for seed in range(1, 5)]
    assert any(other != first for other in others)
    assert valid_ids(replace(config, seed=1)) == others[0]  # without split_seed it is seed


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"split must be one of speakers, utterances, got 'speaker'\. Did you mean"):
        TrainConfig(split="speaker")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="split_seed must be a whole number from 0, got -1"):
        TrainConfig(split_seed=-1)

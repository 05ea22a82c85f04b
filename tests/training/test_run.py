"""One run from real audio to report, its evaluation from the command line's side, and what stops it early."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from speechattn.cli import evaluate
from speechattn.cli import train as commands
from speechattn.data.labels.classes import PHONES, SPEECH, label_set
from speechattn.data.synthetic.config import SyntheticConfig
from speechattn.data.synthetic.corpus import synthesize_corpus
from speechattn.errors import ConfigError, DataError, UserError
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.run_lock import RunLock
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import fingerprint
from speechattn.training.evaluate import evaluate_directory
from speechattn.training.run import run


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve utterances of four synthetic speakers, four of two others."""
    pytest.importorskip("espeakng_loader", reason="synthetic speech needs the extra [synth]")
    size = SyntheticConfig(train_utterances=12, test_utterances=4, train_speakers=4, test_speakers=2)
    return synthesize_corpus(tmp_path_factory.mktemp("cache"), size, progress=False)


@pytest.fixture(params=["synthetic", "real"])
def speech(request: pytest.FixtureRequest) -> tuple[Path, str, str]:
    """(folder, subset to train on, subset to test on): synthetic speech, and LibriSpeech where it is installed."""
    if request.param == "synthetic":
        return request.getfixturevalue("synthetic"), "train", "test"
    return request.getfixturevalue("librispeech_tiny"), "test-clean", "dev-clean"


# One test runs on both; tests that do not depend on the kind of speech train on one, because a run takes seconds.
on_synthetic = pytest.mark.parametrize("speech", ["synthetic"], indirect=True)


@pytest.fixture
def config(speech: tuple[Path, str, str], tmp_path: Path) -> TrainConfig:
    folder, subset, test_subset = speech
    return TrainConfig(
        data=str(folder / "LibriSpeech"),
        subset=subset,
        alignments=str(folder / "alignments"),
        test_subsets=(test_subset,),
        valid_fraction=0.3,
        out=str(tmp_path / "run"),
        baselines=("linear", "mlp"),
        left=4,
        right=3,
        d_model=16,
        num_heads=2,
        num_layers=2,
        d_ff=32,
        mlp_width=16,
        num_mels=20,
        epochs=2,
        valid_every=1,
        warmup_steps=2,
    )


def test_a_run_leaves_table_model_and_report_and_evaluate_agrees(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run(config)
    output = tmp_path / "run"
    results = json.loads((output / "results.json").read_text())
    assert [row["encoder"] for row in results] == ["truncated", "linear", "mlp"]
    assert all(0 <= row["accuracy"] <= 1 and row["peak_memory_mb"] > 50 for row in results)
    assert TrainConfig.from_dict(json.loads((output / "config.json").read_text())) == config
    html = page.read_text()
    assert "data:image/png;base64" in html and "://" not in html.replace("http://www.w3.org", "")
    pictures = {path.stem for path in (output / "pictures").glob("*.png")}
    assert {"phones", "posteriors", "curves", "confusion", "attention-1"} <= pictures
    printed = capsys.readouterr().out
    assert f"always {results[0]['baseline']['label']} " in printed and "accuracy per class" in printed

    written = tmp_path / "out" / "scores.json"
    (subset,) = config.test_subsets
    assert config.alignments is not None
    arguments = ["--model", str(output / "model"), "--data", config.data, "--subset", subset]
    assert evaluate.main([*arguments, "--alignments", config.alignments, "--json-out", str(written)]) == 0
    scores = json.loads(written.read_text(), parse_constant=pytest.fail)  # NaN is not JSON
    assert {"accuracy", "accuracy_no_sil", "frames", "utterances"} <= scores.keys()
    # The run scored frames it kept, evaluate read the audio again: the same numbers, frame for frame.
    assert scores["accuracy"] == pytest.approx(results[0]["tests"][subset]["accuracy"], abs=1e-12)
    assert scores["frames"] == results[0]["tests"][subset]["frames"]


@on_synthetic
def test_the_same_command_on_a_finished_run_reads_it_and_another_config_is_refused(config: TrainConfig) -> None:
    config = replace(config, baselines=(), epochs=1)
    run(config)
    model = (page := run(config)).parent / "model" / "model.safetensors"
    written = model.stat().st_mtime_ns
    assert run(config) == page and model.stat().st_mtime_ns == written
    with pytest.raises(UserError, match="d_ff was 32 and is 48"):
        run(replace(config, d_ff=48))
    with RunLock(config.out), pytest.raises(UserError, match="in use by pid"):
        run(config)
    run(replace(config, d_ff=48), restart=True)
    assert (page.parent.parent / "run.previous-1" / "report.html").exists()


@on_synthetic
@pytest.mark.parametrize("labels", ["words", "speech"])
def test_a_run_on_other_labels_keeps_them_in_its_model(
    config: TrainConfig, labels: Literal["words", "speech"], tmp_path: Path
) -> None:
    config = replace(config, labels=labels, num_words=7, baselines=(), epochs=1)
    run(config)
    output, (subset,) = tmp_path / "run", config.test_subsets
    classes = load(output / "model").config.classes
    assert label_set(classes) == labels
    assert len(classes) == 9 and classes[2] == "the" if labels == "words" else classes == SPEECH
    (result,) = json.loads((output / "results.json").read_text())
    assert result["always_sil"] > 0.1 and list(result["per_class"]) == list(classes)
    scores = evaluate_directory(str(output / "model"), config.data, subset, config.alignments, None)
    assert scores["accuracy"] == pytest.approx(result["tests"][subset]["accuracy"], abs=1e-12)
    with pytest.raises(UserError, match=f"labels was '{labels}' and is 'phones'"):
        run(replace(config, labels="phones"))


@on_synthetic
def test_speech_and_silence_need_no_alignments(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, labels="speech", alignments=None, baselines=(), epochs=1)
    run(config)
    output, (subset,) = tmp_path / "run", config.test_subsets
    (result,) = json.loads((output / "results.json").read_text())
    assert 0 < result["always_sil"] < 0.5
    scores = evaluate_directory(str(output / "model"), config.data, subset, None, None)
    assert scores["frames"] == result["tests"][subset]["frames"] and scores["skipped"] == {}
    assert scores["accuracy"] == pytest.approx(result["tests"][subset]["accuracy"], abs=1e-12)


def test_a_model_of_phones_is_not_scored_without_alignments(config: TrainConfig, tmp_path: Path) -> None:
    model, (subset,) = tmp_path / "model", config.test_subsets
    SpeechModel(ModelConfig(PHONES, config.encoder_config("truncated"), num_mels=config.num_mels)).save(model)
    with pytest.raises(UserError, match=r"--alignments DIR is missing: .* labels phones"):
        evaluate_directory(str(model), config.data, subset, None, None)


def test_settings_of_labels_are_checked() -> None:
    with pytest.raises(ConfigError, match="num_words must be 1 or more"):
        TrainConfig(labels="words", num_words=0)
    with pytest.raises(ConfigError, match="Did you mean 'words'"):
        TrainConfig(labels="word")  # type: ignore[arg-type]


def test_the_fingerprint_depends_on_the_classes() -> None:
    assert fingerprint([], PHONES) == fingerprint([], list(PHONES))
    assert len({fingerprint([], classes) for classes in (PHONES, SPEECH, ("SILSPEECH",), ())}) == 4


def test_speakers_on_both_sides_are_refused(config: TrainConfig) -> None:
    with pytest.raises(DataError, match="speakers are in both training and test data"):
        run(replace(config, test_subsets=(config.subset,)))


def test_missing_data_is_refused_before_anything_is_trained(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        run(replace(config, data=str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match=f"no alignments of '{config.subset}'"):
        run(replace(config, alignments=str(tmp_path)))


def test_options_come_from_a_preset_or_a_file_and_then_from_the_command_line(tmp_path: Path) -> None:
    presets = {"small": TrainConfig(d_model=96, num_heads=6)}
    config, restart = commands.parse_train(["--preset", "small", "--epochs", "3"], presets)
    assert (config.d_model, config.epochs, restart) == (96, 3, False)
    file = tmp_path / "settings.json"
    file.write_text('{"d_model": 64, "baselines": ["mlp"]}')
    config, restart = commands.parse_train(["--config", str(file), "--num-heads", "4", "--restart"], presets)
    assert (config.d_model, config.num_heads, config.baselines, restart) == (64, 4, ("mlp",), True)
    file.write_text('{"d_modle": 64}')
    with pytest.raises(UserError, match="Did you mean 'd_model'"):
        commands.parse_train(["--config", str(file)], presets)
    file.write_text("[1]")
    with pytest.raises(UserError, match="one object"):
        commands.parse_train(["--config", str(file)], presets)

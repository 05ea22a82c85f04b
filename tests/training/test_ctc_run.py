"""The CTC recipe: five updates on a corpus of noise from data to report, its presets, and what it is scored with."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from noise_corpus import write_corpus, write_utterance

from speechattn.cli import beam_search, evaluate
from speechattn.errors import UserError
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel, load
from speechattn.training.config import TrainConfig
from speechattn.training.evaluate import evaluate_directory
from speechattn.training.initial_weights import load_initial
from speechattn.training.run import run
from speechattn.training.tasks.ctc import TOO_SHORT

RECIPE = Path(__file__).parents[2] / "recipes" / "ctc"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five training speakers and one of a test subset, with a transcript that is too long for its recording."""
    folder = tmp_path_factory.mktemp("noise")
    write_corpus(folder)
    write_utterance(folder, "train", "6-1-0000", "FAR TOO MANY WORDS FOR SO SHORT A RECORDING", seconds=0.3)
    return folder


@pytest.fixture(scope="module")
def finished(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """The settings of a run of at least five updates, which has ended."""
    out = tmp_path_factory.mktemp("runs")
    config = TrainConfig(
        task="ctc",
        labels="characters",
        unknown_characters="drop",
        data=str(corpus),
        subset="train",
        test_subsets=("test",),
        valid_fraction=0.3,
        encoder="conformer",
        baselines=("mlp",),
        stack=2,
        splice=0,
        left=4,
        right=2,
        d_model=16,
        num_heads=2,
        num_layers=1,
        d_ff=24,
        conv_kernel=3,
        mlp_width=16,
        num_mels=16,
        epochs=2,
        batch_frames=150,
        warmup_steps=2,
        workers=0,
        cache=str(out / "cache"),
        out=str(out / "run"),
    )
    run(config)
    return config


def results(config: TrainConfig) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((Path(config.out) / "results.json").read_text())
    return found


def test_a_run_ends_with_error_rates_and_a_report(finished: TrainConfig) -> None:
    rows = results(finished)
    assert [row["encoder"] for row in rows] == ["conformer", "mlp"]
    for row in rows:
        assert int(str(row["steps"])) >= 5 and row["baseline"] is None
        assert {"error_rate", "word_error_rate", "character_error_rate", "insertions", "confusions"} <= row.keys()
        assert row["labels"] == len("hello|world|yes") * int(str(row["utterances"]))
    page = (Path(finished.out) / "report.html").read_text(encoding="utf-8")
    for part in ("Spikes", "Greedy and beam search", "Mistakes"):
        assert f">{part}</h2>" in page
    assert {path.stem for path in (Path(finished.out) / "pictures").iterdir()} >= {"alignment", "spikes"}


def test_utterances_too_short_for_their_targets_are_counted(finished: TrainConfig) -> None:
    lines = (Path(finished.out) / "skipped.jsonl").read_text().splitlines()
    (loss,) = [json.loads(line) for line in lines]
    assert loss["id"] == "6-1-0000" and loss["reason"] == TOO_SHORT and "targets need" in loss["found"]


def test_the_same_command_continues_and_other_labels_are_refused(finished: TrainConfig) -> None:
    before = results(finished)
    run(finished)
    assert results(finished) == before


def test_evaluate_scores_a_saved_model_on_any_folder_with_transcripts(
    finished: TrainConfig, corpus: Path, tmp_path: Path
) -> None:
    model = str(Path(finished.out) / "model")
    options = ["--model", model, "--data", str(corpus), "--subset", "test", "--json-out", str(tmp_path / "out.json")]
    assert evaluate.main([*options, "--unknown-characters", "drop"], "ctc") == 0
    scores = json.loads((tmp_path / "out.json").read_text())
    test = results(finished)[0]["tests"]
    assert isinstance(test, dict) and abs(scores["error_rate"] - test["test"]["error_rate"]) < 1e-6
    assert scores["task"] == "ctc" and scores["skipped"] == {}
    with pytest.raises(UserError, match=r"',' 1 x \(first in 9-1-0000\)"):
        evaluate.main(options, "ctc")


def test_a_model_of_frames_is_sent_to_its_recipe(tmp_path: Path, finished: TrainConfig) -> None:
    encoder = finished.encoder_config("mlp")
    frames = ModelConfig(("SIL", "SPEECH"), TrainConfig(num_mels=16).encoder_config("mlp"), num_mels=16)
    assert encoder.stack == 2
    SpeechModel(frames).save(tmp_path / "model")
    with pytest.raises(UserError, match=r"a model of recipes/frame_classifier .*this is recipes/ctc"):
        evaluate_directory(str(tmp_path / "model"), "data", "subset", None, None, task="ctc")


def test_a_saved_model_is_loaded_and_streams(finished: TrainConfig) -> None:
    model = load(Path(finished.out) / "model")
    assert model.config.head == "ctc" and model.config.encoder.stack == 2
    assert model.initial_state().num_bytes > 0


@pytest.mark.skipif(importlib.util.find_spec("flashlight") is None, reason="needs the extra [ctc]")
def test_decoders_are_compared_on_the_held_out_speech(
    finished: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--run", finished.out, "--beam", "8", "--order", "3"]
    files = ["--ngram-out", str(tmp_path / "lm.arpa"), "--json-out", str(tmp_path / "rows.json")]
    assert beam_search.main([*options, *files]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["decoder"] for row in rows] == ["greedy", "beam 8", "beam 8, 3-gram"] * 2
    first = results(finished)[0]
    assert abs(rows[0]["error_rate"] - float(str(first["error_rate"]))) < 1e-6
    assert "beam 8, 3-gram" in capsys.readouterr().out
    assert beam_search.main([*options, "--ngram", str(tmp_path / "lm.arpa")]) == 0


def test_beam_search_of_something_else_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        beam_search.main(["--run", str(tmp_path)])
    (tmp_path / "config.json").write_text(json.dumps(TrainConfig(labels="words").to_dict()))
    SpeechModel(ModelConfig(("SIL", "a"), TrainConfig().encoder_config("linear"), num_mels=40)).save(tmp_path / "model")
    with pytest.raises(UserError, match="task frames and labels words: beam search decodes runs of recipes/ctc"):
        beam_search.main(["--run", str(tmp_path)])


def test_presets_can_be_built_and_the_weights_of_the_package_fit() -> None:
    spec = importlib.util.spec_from_file_location("ctc_train", RECIPE / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert set(module.PRESETS) == {"demo", "phones", "offline", "streaming", "characters"}
    assert all(preset.task == "ctc" and preset.baselines == () for preset in module.PRESETS.values())
    for name in ("streaming", "characters"):
        assert load_initial(module.PRESETS[name]) is not None


@pytest.mark.parametrize("name", ["train.py", "evaluate.py", "beam_search.py"])
def test_scripts_of_the_recipe_show_their_options(name: str) -> None:
    found = subprocess.run([sys.executable, str(RECIPE / name), "--help"], capture_output=True, text=True)
    assert found.returncode == 0 and ("--json-out" in found.stdout or "--unknown-characters" in found.stdout)

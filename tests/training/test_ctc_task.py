"""The task of sequences: targets from transcripts or alignments, the loss of padded rows, and what is left out."""

import math
from pathlib import Path

import pytest
import torch
from noise_corpus import write_utterance
from rounding import assert_same
from torch.nn.functional import ctc_loss

from speechattn.config import EncoderConfig
from speechattn.data.labelled_corpus import Corpus, LabelledUtterance, load_corpus
from speechattn.data.labels.classes import PHONES
from speechattn.data.labels.segments import IGNORE, Segment, Utterance
from speechattn.data.labels.text_targets import CHARACTERS, PHONE_TARGETS
from speechattn.data.synthetic import espeak
from speechattn.errors import DataError, UserError
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel
from speechattn.training.decode_run import as_ctc
from speechattn.training.initial_weights import start_from
from speechattn.training.tasks.ctc import TOO_SHORT, CTCTask

LEXICON = "hello HH AH0 L OW1\nworld W ER1 L D\nyes Y EH1 S\n"
TASK = CTCTask.of([], "characters")


def item(id: str, transcript: str | None, seconds: float = 1.5, phones: str = "") -> LabelledUtterance:
    segments = [Segment(0.1 * i, 0.1 * i + 0.1, phone) for i, phone in enumerate(phones.split())]
    return LabelledUtterance(
        Utterance(id, id.split("-")[0], Path("none.flac"), transcript), round(seconds * Framing().sample_rate), segments
    )


def corpus_of(*items: LabelledUtterance) -> Corpus:
    corpus = Corpus("train")
    corpus.utterances = list(items)
    return corpus


def model_config(classes: tuple[str, ...], stack: int = 1) -> ModelConfig:
    encoder = EncoderConfig(input_dim=8, d_model=8, num_layers=1, num_heads=1, stack=stack)
    return ModelConfig(classes, encoder, num_mels=8, head="ctc")


@pytest.fixture
def lexicon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A dictionary of three words, and no espeak-ng."""

    def missing() -> str:
        raise UserError("no espeak-ng here")

    monkeypatch.setattr(espeak, "engine_version", missing)
    (tmp_path / "my.dict").write_text(LEXICON)
    return str(tmp_path / "my.dict")


def test_targets_are_characters_of_the_transcript() -> None:
    corpus = corpus_of(item("1-1-0", "YES NO"))
    TASK.leave_out_unusable(corpus, Framing())
    labels = TASK.targets(corpus.utterances[0], Framing())
    assert labels.dtype == torch.int64
    assert [CHARACTERS[index] for index in labels.tolist()] == ["y", "e", "s", "|", "n", "o"]


def test_targets_are_phones_of_the_alignment_where_there_is_one() -> None:
    task = CTCTask.of([], "phones", alignments="folder")
    corpus = corpus_of(item("1-1-0", "HELLO", phones="SIL HH AH L L OW SPN SIL"))
    task.leave_out_unusable(corpus, Framing())
    labels = task.targets(corpus.utterances[0], Framing())
    assert [PHONE_TARGETS[index] for index in labels.tolist()] == ["HH", "AH", "L", "L", "OW"]


def test_targets_are_pronunciations_without_alignments(lexicon: str) -> None:
    task = CTCTask.of([], "phones", lexicon=lexicon)
    corpus = corpus_of(item("1-1-0", "Yes, world!"), item("1-1-1", "yes whatever"), item("1-1-2", "..."))
    task.leave_out_unusable(corpus, Framing())
    labels = task.targets(corpus.utterances[0], Framing())
    assert [PHONE_TARGETS[index] for index in labels.tolist()] == ["Y", "EH", "S", "W", "ER", "L", "D"]
    assert corpus.skipped == {"no pronunciation": ["1-1-1"], "no words in the transcript": ["1-1-2"]}
    assert corpus.losses()[0]["found"] == "no pronunciation of whatever"


def test_phones_without_lexicon_and_espeak_are_an_error_that_says_so(lexicon: str) -> None:
    with pytest.raises(UserError, match="--lexicon FILE"):
        CTCTask.of([], "phones")


@pytest.mark.parametrize(("stack", "left_out"), [(1, 0), (2, 0), (4, 1)])
def test_an_utterance_with_too_few_frames_for_its_targets_is_left_out_and_counted(stack: int, left_out: int) -> None:
    task = CTCTask.of([], "characters", stack=stack)
    corpus = corpus_of(item("1-1-0", "AAAAAAAAAA", seconds=0.4), item("1-1-1", "A", seconds=0.4))
    frames = Framing().num_frames(corpus.utterances[0].num_samples) // stack
    task.leave_out_unusable(corpus, Framing())
    assert (frames < 19) == bool(left_out)  # ten letters and nine blanks between them
    assert len(corpus.skipped.get(TOO_SHORT, [])) == left_out and len(corpus.utterances) == 2 - left_out
    if left_out:
        assert corpus.losses()[0]["found"] == f"{frames} frames of the encoder, its targets need 19"
        assert TOO_SHORT in corpus.summary()


def test_characters_outside_the_alphabet_stop_with_a_list_or_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    items = item("1-1-0", "PLAIN"), item("1-1-1", "Ol\u00e9, 5!"), item("1-1-2", "5 5")
    with pytest.raises(DataError, match=r"'5' 3 x \(first in 1-1-1\), '\u00e9' 1 x .*--unknown-characters drop"):
        TASK.leave_out_unusable(corpus_of(*items), Framing())
    corpus = corpus_of(*items)
    CTCTask.of([], "characters", unknown="drop").leave_out_unusable(corpus, Framing())
    assert corpus.skipped == {"no words in the transcript": ["1-1-2"]}
    assert "'5' 3 x (first in 1-1-1)" in capsys.readouterr().out
    assert [CHARACTERS[i] for i in TASK.targets(corpus.utterances[1], Framing()).tolist()] == ["o", "l"]


def test_a_corpus_without_a_usable_utterance_is_an_error_with_the_reasons() -> None:
    with pytest.raises(DataError, match="no utterance of train can be used: no transcript: 1"):
        TASK.leave_out_unusable(corpus_of(item("1-1-0", None)), Framing())
    with pytest.raises(DataError, match="it is empty"):
        TASK.leave_out_unusable(corpus_of(), Framing())


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three rows: one that fits, one whose targets do not fit into its frames, one with fewer labels."""
    noise = torch.randn(3, 6, len(CHARACTERS), generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[4, 4, 5, 6], [7, 7, 7, IGNORE], [3, IGNORE, IGNORE, IGNORE]])
    return noise.log_softmax(-1), torch.tensor([6, 4, 5]), labels


def test_the_loss_is_the_mean_over_rows_and_an_impossible_row_costs_nothing() -> None:
    log_probs, lengths, labels = batch()
    rows = []
    for b, size in ((0, 4), (2, 1)):
        part = log_probs[b : b + 1, : lengths[b]].transpose(0, 1)
        rows.append(ctc_loss(part, labels[b : b + 1, :size], lengths[b : b + 1], torch.tensor([size])))
    loss = TASK.loss(log_probs, lengths, labels)
    assert torch.allclose(loss, (rows[0] + rows[1]) / 3, atol=1e-6) and bool(loss > 0)
    assert int(TASK.num_targets(labels)) == 3


def test_padding_changes_neither_the_loss_nor_its_gradient_which_is_finite() -> None:
    log_probs, lengths, labels = batch()
    wide = torch.full((3, 9, len(CHARACTERS)), math.nan)
    wide[:, :6] = log_probs
    for b, length in enumerate(lengths.tolist()):
        wide[b, length:] = 0.0
    found = []
    for frames, row in ((log_probs, labels), (wide, torch.nn.functional.pad(labels, (0, 3), value=IGNORE))):
        frames = frames.clone().requires_grad_()
        loss = TASK.loss(frames, lengths, row)
        loss.backward()  # type: ignore[no-untyped-call]
        assert frames.grad is not None and bool(frames.grad.isfinite().all())
        found.append((loss.detach(), frames.grad[:, :6]))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    for b, length in enumerate(lengths.tolist()):
        assert torch.allclose(found[0][1][b, :length], found[1][1][b, :length], atol=1e-6)


def test_accuracy_of_a_batch_is_in_0_1_even_with_nan_and_without_labels() -> None:
    log_probs, lengths, labels = batch()
    perfect = torch.nn.functional.one_hot(torch.tensor([[4, 0, 4, 5, 6, 6]]), len(CHARACTERS)).float()
    assert float(TASK.accuracy(perfect.log_softmax(-1), torch.tensor([6]), labels[:1])) == 1.0
    for given in (log_probs, torch.full_like(log_probs, math.nan)):
        assert 0 <= float(TASK.accuracy(given, lengths, labels)) <= 1
    assert float(TASK.accuracy(log_probs, lengths, torch.full_like(labels, IGNORE))) == 0.0


def test_the_n_gram_is_of_one_subset_without_the_held_out_utterances() -> None:
    task = CTCTask.of([], "characters")
    corpus = corpus_of(item("1-1-0", "ABAB"), item("2-1-0", "ZZZZ"))
    task.leave_out_unusable(corpus, Framing())
    all_of_it, part = task.ngram("train", (), 2), task.ngram("train", {"2-1-0"}, 2)
    assert ("z", "z") in all_of_it.log_probs and ("z", "z") not in part.log_probs and ("a", "b") in part.log_probs


def test_a_saved_model_finds_its_labels_in_any_folder(tmp_path: Path, lexicon: str) -> None:
    write_utterance(tmp_path, "test", "9-1-0000", "HELLO WORLD")
    write_utterance(tmp_path, "test", "9-1-0001", "hello", seconds=0.03)
    task, corpus = CTCTask.evaluation(model_config(CHARACTERS), tmp_path, "test")
    assert task.classes == CHARACTERS and corpus.skipped == {TOO_SHORT: ["9-1-0001"]}
    assert [CHARACTERS[i] for i in task.targets(corpus.utterances[0], Framing())] == list("hello|world")
    task, corpus = CTCTask.evaluation(model_config(PHONE_TARGETS, stack=2), tmp_path, "test", lexicon=lexicon)
    assert task.stack == 2 and len(task.targets(corpus.utterances[0], Framing())) == 8


def test_a_model_with_other_classes_has_no_targets(tmp_path: Path) -> None:
    write_utterance(tmp_path, "test", "9-1-0000", "HELLO")
    with pytest.raises(UserError, match=r"classes of its own \(3: -, a, b, ...\)"):
        CTCTask.evaluation(model_config(("-", "a", "b")), tmp_path, "test")


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "LibriSpeech" / "test").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no recordings"):
        CTCTask.evaluation(model_config(CHARACTERS), tmp_path, "test")


def test_load_corpus_without_labels_has_no_segments(tmp_path: Path) -> None:
    write_utterance(tmp_path, "test", "9-1-0000", "HELLO")
    assert list(load_corpus(tmp_path, "test", None, ()).utterances[0].segments) == []


def test_the_head_begins_as_that_of_frames_with_the_same_phones() -> None:
    encoder = EncoderConfig(input_dim=8, d_model=16, num_layers=1, num_heads=2)
    frames = SpeechModel(ModelConfig(PHONES, encoder, num_mels=8)).eval()
    model = SpeechModel(ModelConfig(PHONE_TARGETS, encoder, num_mels=8, head="ctc")).eval()
    assert "the head of 39 classes with equal names, the blank of SIL" in start_from(model, frames)
    x = torch.randn(1, 30, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = frames.classify(x)[0][:, :, :40]  # without spoken noise, which CTC does not have
        assert_same(model.classify(x)[0], logits.log_softmax(-1))
        assert_same(as_ctc(frames).classify(x)[0], model.classify(x)[0])
    characters = SpeechModel(ModelConfig(CHARACTERS, encoder, num_mels=8, head="ctc"))
    assert "The head is new" in start_from(characters, frames)

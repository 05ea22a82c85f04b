"""Labels converted to seconds and back are the same in every framing, and rows of labels cover their frames."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechattn.data.labels.alignments import load_alignments
from speechattn.data.labels.classes import PHONES
from speechattn.data.labels.frame_labels import frame_labels, labels_to_segments, read_classes, read_frame_rows
from speechattn.data.labels.segments import IGNORE, Alignment, Segment
from speechattn.errors import DataError
from speechattn.framing import ALIGNMENTS, Framing

SNIP = Framing(align="snip")
FRAMINGS = [
    *(Framing(align=align) for align in ALIGNMENTS),
    *(Framing(sample_rate=8000, window=200, hop=80, align=align) for align in ALIGNMENTS),
    *(Framing(sample_rate=44_100, window=1103, hop=441, align=align) for align in ALIGNMENTS),
    *(Framing(sample_rate=11_025, window=7, hop=3, align=align) for align in ALIGNMENTS),
]


def text_file(tmp_path: Path, text: str, name: str) -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


# Files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 SIL\n2 AA\n", r"classes.txt:2: expected '1 <new class name>', got '2 AA'"),
        ("0 SIL\n1 SIL\n", "classes.txt:2"),
        ("SIL\n", "classes.txt:1"),
        ("\n\n", "names no classes"),
    ],
)
def test_bad_classes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_classes(text_file(tmp_path, text, "classes.txt"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 0 1\na 0 1\n", "rows.txt:2: utterance a occurs twice"),
        ("a 0 41\n", r"rows.txt:1: labels must be class indices in \[0, 41\) or -100, got 41"),
        ("a 0 -1\n", "rows.txt:1: labels must be"),
        ("a 0 x\n", "rows.txt:1: invalid literal"),
    ],
)
def test_bad_rows_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_frame_rows(text_file(tmp_path, text, "rows.txt"), PHONES)


def test_rows_begin_at_zero_and_change_half_way_between_centres(tmp_path: Path) -> None:
    rows = read_frame_rows(text_file(tmp_path, "a 0 0 1 -100 2\nempty\n", "rows.txt"), PHONES)
    # centres at 12.5, 22.5, 32.5, 42.5, 52.5 ms
    segments = [Segment(0.0, 0.0275, "SIL"), Segment(0.0275, 0.0375, "AA"), Segment(0.0475, 0.0575, "AE")]
    assert rows["a"] == Alignment(segments, stop_s=0.0575)
    assert rows["empty"] == Alignment([], stop_s=0.0)


def test_a_row_covers_unlabelled_frames_at_its_end(tmp_path: Path) -> None:
    rows = read_frame_rows(text_file(tmp_path, f"a 1 {'-100 ' * 99}\nb {'-100 ' * 60}\n", "rows.txt"), PHONES)
    assert rows["a"] == Alignment([Segment(0.0, 0.0175, "AA")], stop_s=1.0075)
    assert rows["b"] == Alignment([], stop_s=0.6075)
    assert rows["a"].fits(1.0, tolerance=0.5) and rows["b"].fits(1.0, tolerance=0.5)
    assert frame_labels(rows["a"].over(1.0), 16_000, SNIP).tolist() == [1] + [IGNORE] * 97


# Frames


def test_a_label_is_read_at_the_centre_half_open_in_every_framing() -> None:
    segments = [Segment(0.0, 0.0125, "SIL"), Segment(0.0125, 0.03, "AA"), Segment(0.04, 0.05, "B")]
    # 800 samples; centres in samples: causal 0 120 280 440 600, snip 200 360 520, center 0 160 320 480 640 799
    want = {"causal": [0, 0, 1, 1, IGNORE], "snip": [1, 1, IGNORE], "center": [0, 0, 1, IGNORE, 7, 7]}
    for align, labels in want.items():
        got = frame_labels(segments, 800, Framing(align=align))
        assert got.dtype == torch.int64
        assert got.tolist() == labels


@pytest.mark.parametrize("num_samples", [0, 1, 159, 160, 399, 400, 401])
@pytest.mark.parametrize("align", ALIGNMENTS)
def test_short_audio_has_the_frames_its_framing_says(num_samples: int, align: str) -> None:
    framing = Framing(align=align)
    assert frame_labels([], num_samples, framing).tolist() == [IGNORE] * framing.num_frames(num_samples)
    assert frame_labels([Segment(0, 0.4, "B")], num_samples, framing).tolist() == [7] * framing.num_frames(num_samples)


def test_an_alignment_may_end_a_little_late_but_not_belong_to_other_audio() -> None:
    assert frame_labels([Segment(0, 1.5, "B")], 16_000, Framing()).tolist() == [7] * 100
    with pytest.raises(DataError, match=r"ends 0.51 s after the audio \(1.00 s\)"):
        frame_labels([Segment(0, 1.51, "B")], 16_000, Framing())


def test_frames_refuse_overlaps_and_unknown_phones() -> None:
    with pytest.raises(DataError, match="segments overlap: one ends at sample 8000, the next begins at 6400"):
        frame_labels([Segment(0, 0.5, "B"), Segment(0.4, 0.6, "AA")], 16_000, Framing())
    with pytest.raises(DataError, match="unknown phone 'XX'"):
        frame_labels([Segment(0, 0.5, "XX")], 16_000, Framing())


def test_order_of_segments_does_not_matter_and_labels_may_carry_stress() -> None:
    segments = [Segment(0.5, 1.0, "ah1"), Segment(0.0, 0.5, "sp")]
    assert frame_labels(segments, 16_000, SNIP).tolist() == frame_labels(segments[::-1], 16_000, SNIP).tolist()
    assert frame_labels(segments, 16_000, SNIP)[-1] == PHONES.index("AH")


def test_words_without_a_class_are_others_and_phones_without_one_are_a_mistake() -> None:
    classes = ("SIL", "<OTHER>", "the", "cat")
    segments = [Segment(0.0, 0.2, "SIL"), Segment(0.2, 0.4, "CAT"), Segment(0.4, 0.6, "sat"), Segment(0.6, 0.8, "the")]
    labels = frame_labels(segments, 16_000, Framing(), classes)
    assert [labels[t] for t in (10, 30, 50, 70, 90)] == [0, 3, 1, 2, IGNORE]


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(FRAMINGS), st.booleans())
def test_labels_to_seconds_to_labels_is_the_identity(data: st.DataObject, framing: Framing, known_end: bool) -> None:
    num_samples = data.draw(st.integers(0, 40 * framing.hop))
    count = framing.num_frames(num_samples)
    classes = st.sampled_from([IGNORE, 0, 1, 1, 40])
    labels = data.draw(st.lists(classes, min_size=count, max_size=count))
    segments = labels_to_segments(torch.tensor(labels), framing, PHONES, num_samples if known_end else None)
    assert frame_labels(segments, num_samples, framing).tolist() == labels
    assert labels_to_segments(labels, framing, PHONES, num_samples if known_end else None) == segments
    if known_end and segments:
        assert segments[-1].stop_s <= num_samples / framing.sample_rate


@pytest.mark.parametrize("align", ALIGNMENTS)
def test_the_identity_holds_after_an_hour(align: str) -> None:
    framing = Framing(align=align)
    num_samples = 3600 * 16_000 + 77
    count = framing.num_frames(num_samples)
    labels = torch.randint(0, 41, (count // 9 + 1,)).repeat_interleave(9)[:count]
    segments = labels_to_segments(labels, framing, PHONES, num_samples)
    assert segments[0].start_s == 0
    assert segments[-1].stop_s == num_samples / 16_000
    assert torch.equal(frame_labels(segments, num_samples, framing), labels)


def test_frames_clipped_to_one_centre_share_the_last_label() -> None:
    framing = Framing(window=8, hop=1)  # centres -3 .. 0 are all clipped to 0
    segments = labels_to_segments([1, 2, 3, 4, 5], framing, PHONES, 5)
    assert [s.label for s in segments] == [PHONES[4], PHONES[5]]
    assert frame_labels(segments, 5, framing).tolist() == [4, 4, 4, 4, 5]


def test_labels_must_fit_the_audio_and_the_classes() -> None:
    with pytest.raises(ValueError, match="got 99 labels, but 16000 samples are 100 frames"):
        labels_to_segments([0] * 99, Framing(), PHONES, 16_000)
    with pytest.raises(ValueError, match=r"class indices in \[0, 41\) or -100, got 41"):
        labels_to_segments([41], Framing(), PHONES)
    assert labels_to_segments([], Framing(), PHONES) == []


# Real alignments


def rows_of(path: Path) -> dict[str, list[int]]:
    return {id: [int(c) for c in row] for id, *row in (line.split() for line in path.read_text().splitlines())}


@pytest.mark.parametrize("subset", ["dev-clean", "test-clean", "train-clean-100", "test-other"])
def test_seconds_give_the_frame_labels_of_the_data(request: pytest.FixtureRequest, subset: str) -> None:
    """The CTM ends 10 to 15 ms before the audio; where the last centre lies past it (at most 2.5 ms), the given
    row repeats the last phone and we say IGNORE. Every other frame is equal."""
    from speechattn.data.audio.files import audio_samples

    tiny = subset in ("dev-clean", "test-clean")
    root: Path = request.getfixturevalue("librispeech_tiny" if tiny else "librispeech_shared")
    rows = rows_of(root / "alignments" / f"{subset}.frame_labels.txt")
    seconds = load_alignments(root / "alignments", subset, PHONES)
    from_rows = read_frame_rows(root / "alignments" / f"{subset}.frame_labels.txt", PHONES)
    for path in (root / "LibriSpeech" / subset).glob("*/*/*.flac"):
        num_samples, row = audio_samples(path), rows[path.stem]
        got = frame_labels(seconds[path.stem].segments, num_samples, SNIP).tolist()
        assert len(got) == len(row)
        assert got[:-1] == row[:-1]
        if got[-1] == IGNORE:
            late = SNIP.seconds_at(len(row) - 1) - seconds[path.stem].segments[-1].stop_s
            assert -1e-9 <= late <= 0.0025 + 1e-9
        else:
            assert got[-1] == row[-1]
        assert frame_labels(from_rows[path.stem].segments, num_samples, SNIP).tolist() == row

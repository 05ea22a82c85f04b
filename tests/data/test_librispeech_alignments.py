"""The text format of librispeech-alignments is read without gaps, and every other line is refused."""

from pathlib import Path

import pytest

from speechattn.data.labels.librispeech_alignments import read_word_times
from speechattn.data.labels.segments import Segment
from speechattn.errors import DataError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "84-121123.alignment.txt"
    path.write_bytes(text.encode())
    return path


def test_words_and_silences_join(tmp_path: Path) -> None:
    text = (
        '\ufeff84-121123-0000 ",GO,,DO,YOU\'LL," "0.490,0.890,1.270,1.380,1.490,1.490" \r\n\n'
        '84-121123-0001 "BUT" "0.270"'
    )
    assert read_word_times(written(tmp_path, text)) == {
        "84-121123-0000": [
            Segment(0.0, 0.49, ""),
            Segment(0.49, 0.89, "GO"),
            Segment(0.89, 1.27, ""),
            Segment(1.27, 1.38, "DO"),
            Segment(1.38, 1.49, "YOU'LL"),
            Segment(1.49, 1.49, ""),  # a sentence ends with a silence, if need be of no length
        ],
        "84-121123-0001": [Segment(0.0, 0.27, "BUT")],
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('a ",GO," "0.49,0.89"', r"3 words \(silences included\) and 2 end times do not pair one to one"),
        ('a ",GO," "0.49,0.39,1"', "end times must not fall, got 0.39 after 0.49 s"),
        ('a ",GO," "0.49,half,1"', "an end time must be a number of seconds, got 'half'"),
        ('a ",GO," "0.49,nan,1"', "end times must not fall, got nan"),
        ('a ",GO," "0.49,inf,inf"', "end times must not fall, got inf"),
        ('a ",GO," "-0.1,1,1"', "end times must not fall, got -0.1"),
        ('a "" ""', "an end time must be a number of seconds, got ''"),
        ("a ,GO, 0.49,0.89,1", "expected 'utterance \",WORD"),
        ('a ",GO,"', "expected 'utterance"),
        ('a b ",GO," "1,2,3"', "expected 'utterance"),
        ('first "A" "1"', "utterance first occurs twice"),
    ],
)
def test_other_lines_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"84-121123\.alignment\.txt:2: .*{message}"):
        read_word_times(written(tmp_path, f'first ",GO," "0.5,1,1"\n{line}\n'))

"""`speechattn align AUDIO`: one recording with its transcript, by a model that is there already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechattn.alignment.align_config import AlignConfig
from speechattn.cli.options import Parser, check_output_file
from speechattn.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Align one recording with the options `argv`; return the exit status."""
    parser = Parser("speechattn align", description="Align one recording. For a corpus: speechattn align --data DIR.")
    add = parser.add_argument
    add("audio", type=Path, metavar="AUDIO", help="a sound file")
    add("transcript", type=Path, nargs="?", metavar="TRANSCRIPT.txt", help="its words (default: AUDIO's name, .txt)")
    add("--text", metavar="TEXT", help="the words themselves")
    add("--out", type=Path, default=Path(), metavar="DIR", help="folder for TextGrid and CTM (default: this one)")
    add("--lexicon", metavar="FILE", help="pronunciation dictionary; other words are looked up in espeak-ng")
    add("--model", default="small-en-phones", metavar="DIR", help="an earlier alignment (default: small-en-phones)")
    add("--plot", type=Path, nargs="?", const=Path(), metavar="FILE.png", help="picture (default: AUDIO's name in DIR)")
    options = parser.parse_args(argv)
    text = _transcript(options.audio, options.transcript, options.text)
    files = [options.out / f"{options.audio.stem}.{suffix}" for suffix in ("TextGrid", "phones.ctm", "words.ctm")]
    if options.plot == Path():  # --plot without a file
        files.append(options.out / f"{options.audio.stem}.png")
    elif options.plot is not None:
        check_output_file("--plot", options.plot, (".png",))
        files.append(options.plot)
    for file in files:
        if file.exists():
            raise UserError(f"{file} exists, and is not overwritten: remove it, or choose another --out.")
    from speechattn.alignment.folder import find_model
    from speechattn.alignment.pronunciations import Pronunciations
    from speechattn.alignment.recording import align_recording
    from speechattn.alignment.results import tiers
    from speechattn.data.labels.ctm import is_ctm_id, write_ctm
    from speechattn.data.labels.textgrid import write_textgrid

    id = "_".join(options.audio.stem.split())
    if not is_ctm_id(id):
        raise UserError(f"{options.audio} has a name that a CTM table cannot hold: rename the file.")
    found = align_recording(options.audio, text, find_model(options.model), Pronunciations(options.lexicon))
    options.out.mkdir(parents=True, exist_ok=True)
    write_textgrid(files[0], tiers(found))
    write_ctm(files[1], [(id, found.phones)])
    write_ctm(files[2], [(id, found.words)])
    if options.plot:
        from speechattn.cli.align_pictures import write_picture

        write_picture(files[3], options.audio, found.phones, found.words)
    print("start_s\tstop_s\tword")
    for word in found.words:
        print(f"{word.start_s:.3f}\t{word.stop_s:.3f}\t{word.label}")
    doubt = f"below {AlignConfig.min_score:g} the words may not be those of the recording"
    print(f"\nscore {found.score:.2f} (0 is the best, {doubt})")
    print("\n".join(map(str, files)))
    return 0


def _transcript(audio: Path, file: Path | None, text: str | None) -> str:
    """Return the words of the recording, before torch is imported."""
    from speechattn.data.text_files import read_lines

    if not audio.exists():
        raise UserError(f"{audio} does not exist. Give a sound file, or a corpus with --data DIR --subset NAME.")
    if audio.is_dir():
        raise UserError(f"{audio} is a folder: give it with --data {audio}, and --out DIR.")
    if text is not None:
        if file is not None:
            raise UserError(f"--text and {file} are two transcripts: give one.")
        return text
    file = file or audio.with_suffix(".txt")
    if not file.exists():
        raise UserError(f"{file} does not exist: give the words of {audio.name} as a file, or with --text 'WORDS'.")
    return " ".join(read_lines(file))

"""Titles of pictures of recordings: what is said, and by whom."""

from __future__ import annotations

MAX_CHARACTERS = 64
"""With what else stands in a title, it fits above the widest pictures."""


def sentence_title(sentence: str, speaker: str = "", max_characters: int = MAX_CHARACTERS) -> str:
    """Return a sentence in quotation marks, cut between words if it is long, and its speaker; "" without words.

    Examples:
        >>> sentence_title("SHE SAYS YES", "19")
        '"She says yes" (speaker 19)'
        >>> sentence_title("SHE SAYS YES AND NO", "19", 30)
        '"She says ..." (speaker 19)'
    """
    suffix = f" (speaker {speaker})" if speaker else ""
    words = (sentence.capitalize() if sentence.isupper() else sentence).split()
    title = ""
    for count in range(len(words), 0, -1):
        title = f'"{" ".join(words[:count])}{" ..." * (count < len(words))}"{suffix}'
        if len(title) <= max_characters:
            break
    return title

"""Families of phones: vowels, stops, fricatives and so on. Nothing about colours: see plots/style.py."""

from __future__ import annotations

FAMILIES: dict[str, tuple[str, ...]] = {
    "silence": ("SIL", "SP", "SPN", "NSN"),
    "vowel": ("AA", "AE", "AH", "AO", "EH", "ER", "IH", "IY", "UH", "UW", "AX", "IX", "AXR"),
    "diphthong": ("AW", "AY", "EY", "OW", "OY"),
    "approximant": ("L", "R", "W", "Y"),
    "nasal": ("M", "N", "NG"),
    "fricative": ("DH", "F", "HH", "S", "SH", "TH", "V", "Z", "ZH"),
    "affricate": ("CH", "JH"),
    "stop": ("B", "D", "G", "K", "P", "T"),
    "other": (),
}
"""Family -> its ARPAbet phones, in the order in which tables and figures list them."""

_FAMILY = {phone: family for family, phones in FAMILIES.items() for phone in phones}


def family(phone: str) -> str:
    """Return the family of a phone, such as "vowel" or "stop", without its stress digit; other labels are "other".

    Phones are in capitals: "uh" is a word.

    Examples:
        >>> family("AA1"), family("T"), family("seven")
        ('vowel', 'stop', 'other')
    """
    return _FAMILY.get(phone.rstrip("0123456789"), "other")

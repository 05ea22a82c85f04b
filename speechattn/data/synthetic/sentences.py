"""Random English sentences from small word lists, which the synthetic voices read.

A small grammar of the past tense, which needs no agreement, fills its slots at random. The words are chosen for their
phones: all 39 of ARPAbet occur often, the rare ones (ZH, OY, UH, TH) more often than in books. The sentences are well
formed and mean little. Standard library only.
"""

from __future__ import annotations

from random import Random

_WORDS = {
    "name": """Alice George Edith Hank Roy Joyce Ruth Thomas Judith Beth Charles Shirley Victor Zoe Walter Heather Owen
        Phoebe Martha Keith Joy Hector Yolanda Arthur Louise Nathan Gwen Chester Isaac Miriam Douglas Floyd""",
    "noun": """garden teacher river window kitchen measure treasure bridge mother father brother engine voice village
        doctor orange letter thunder chocolate watch chair shadow garage feather machine yellow boy coin oyster kettle
        cushion bush wolf woman bull book hook butcher pudding sugar foot cook tooth bath path cloth earth thread moth
        month health birthday jungle judge giant cabbage pigeon badge church cheese branch picture lecture station
        ocean fish sheep shell ring song finger king spring tongue wagon rabbit lake gate table game whale stone boat
        road window ghost rope town cloud mouse tower flower owl house crown kite light tiger island pilot wheel queen
        field street leaf piece moon fruit school suitcase juice tune uncle onion hunter cup drum glove money apple
        hammer ladder cat candle map farm star harbour carpet heart palm ball hall sauce author daughter horse door
        board storm bird nurse purse worker girl turtle hill mill ship cliff mirror engineer beard ear desk bell nest
        egg friend valley wire fire vase zebra visitor prison bazaar puzzle cousin dozen vision beige massage hat hen
        hero hood yacht yard university crew squirrel quilt twin swan fog frog jacket vinegar kangaroo hurricane""",
    "plural": """children neighbours sailors soldiers strangers oranges treasures voices toys coins clothes months moths
        teeth feet sheep geese mice watches bridges judges pigeons branches pictures fishes shoes shells rings songs
        kings stones boats roads towns clouds flowers owls houses kites tigers wheels leaves moons fruits schools cups
        gloves apples hammers cats maps farms stars hearts walls horses doors boards birds nurses girls hills ships
        cliffs ears desks bells eggs friends wires fires zebras visitors puzzles cousins""",
    "adjective": """quiet yellow heavy curious ancient bright cheap thick thin smooth rough hasty strange rich poor cold
        warm small large narrow broad young old early late loud noisy royal loyal spoiled foggy hungry angry lazy busy
        gentle joyful ugly yellow wooden woollen good full crooked thoughtful faithful healthy wealthy northern southern
        earthy wild white fine bold brown round proud sour cheerful rare square pure secure clear weird dear unusual
        casual visual genuine brave pale famous green sweet deep blue cool new useful third thirty purple nervous soft
        strong long short dark sharp hard flat happy sad red yellow empty seven twelve zealous vivid usual shy fresh""",
    "transitive": """carried watched followed found caught bought sold painted counted measured treasured enjoyed
        avoided joined chose noticed answered remembered pushed pulled shook took cooked understood described visited
        reached touched changed judged managed pictured threw gathered bothered breathed washed wished finished shared
        brought thought-about looked-at listened-to heard observed served turned learned
        covered loved hugged begged dropped stopped stole showed owned towed drove bore tore feared hired admired
        destroyed annoyed employed housed crowned doubted shouted-at chased used-up moved proved buried""",
    "intransitive": """walked wandered vanished arrived laughed coughed shivered whispered shouted sang slept woke fell
        rose danced travelled waited worked hurried yawned quarrelled smiled sneezed jumped climbed swam floated fished
        listened rejoiced stood sat leaned moved roared boiled exploded argued decided hesitated breathed returned""",
    "preposition": """under over across behind beside beyond near through without above below against around
        toward before after along past inside outside beneath between-the-river-and""",
    "adverb": """slowly quickly usually rarely suddenly carefully joyfully together yesterday again too-early
        without-a-word once-more with-pleasure in-silence at-night before-breakfast all-day for-five-hours by-chance
        on-purpose as-usual at-noon twice-a-year thoughtfully nowhere somewhere upstairs outdoors very-loudly
        every-evening on-Thursday in-August with-both-hands""",
    "opening": """yesterday at-first early-that-morning after-the-storm one-day-in-July once-upon-a-time as-usual
        that-evening at-half-past-four in-those-years long-ago to-our-surprise without-any-doubt long-before-noon
        when-they-were-seventeen all-the-same for-one-moment one-cold-Thursday in-truth by-the-way""",
    "determiner": "the the the a-single his her my our your this that every each another some",
    "many": "the the these those five eight ten thousands-of both many few all-our their our",
    "pronoun": "he she we they you I nobody everyone",
    "join": "and but while because although until since whether-or-not as-soon-as whenever",
    "say": "said cried asked answered thought whispered shouted replied",
}
_LISTS = {slot: [word.replace("-", " ") for word in words.split()] for slot, words in _WORDS.items()}

_CLAUSES = (
    "{subject} {transitive} {object}",
    "{subject} {transitive} {object} {preposition} {object}",
    "{subject} {transitive} {object} {adverb}",
    "{subject} {intransitive} {preposition} {object}",
    "{subject} {intransitive} {adverb}",
    "{subject} could not find {object} {preposition} {object}",
    "here stood a {adjective} {noun} {preposition} {object}",
    "nobody would choose a {adjective} {noun} or a {noun}",
    "how {adjective} the {noun} looked {preposition} {object}",
)
_SENTENCES = (
    "{clause}.",
    "{clause}, {join} {clause}.",
    "{opening}, {clause}.",
    "{clause}, {say} {name}.",
    "{name}, {say} the {noun}, did you see {object}?",
    "{noun}, {noun}, {adjective} {noun} and {noun}.",
)
_PHRASES = {
    "subject": ("{determiner} {noun}", "{determiner} {adjective} {noun}", "{many} {plural}", "{pronoun}", "{name}"),
    "object": (
        "{determiner} {noun}",
        "{determiner} {adjective} {noun}",
        "{many} {adjective} {plural}",
        "{many} {plural}",
    ),
}


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return `count` different sentences of 3 to about 20 words; a larger count with the same seed begins with them.

    Examples:
        >>> sentences(2, seed=1) == sentences(100, seed=1)[:2]
        True
    """
    random = Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        text = _expand(random, random.choice(_SENTENCES))
        found[text[0].upper() + text[1:]] = None
    return list(found)


def _expand(random: Random, template: str) -> str:
    """Return the template with every slot filled, from left to right."""
    while "{" in template:
        start, stop = template.index("{"), template.index("}")
        slot = template[start + 1 : stop]
        choices = _CLAUSES if slot == "clause" else _PHRASES.get(slot) or _LISTS[slot]
        template = template[:start] + random.choice(choices) + template[stop + 1 :]
    return template

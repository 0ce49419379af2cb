"""Tokens of captions as the COCO evaluation has them, without its Java program."""

import functools
import re
from typing import Any

from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

PROTOCOL = (
    "Penn Treebank tokens (nltk), lower case, without pycocoevalcap's punctuation list; "
    "equal to its Java PTBTokenizer but for markup, web addresses, smileys and rare abbreviations"
)
"""What a record says of `tokenise`."""

_ABBREVIATED = """
    mr mrs ms dr prof st ste ave blvd rd ct sq bldg jr sr inc co corp ltd plc bros mt ft vs v etc gen col capt lt
    sgt maj cmdr adm rev hon sen rep gov pres supt atty jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues
    wed thu thurs fri dept est messrs mme mlle esq ph.d cf al univ mfg assn intl natl tel ext ariz calif colo conn fla
    ga ind kan ky mich minn mo mont neb nev okla penn tenn va vt wis wyo"""
ABBREVIATIONS = frozenset(_ABBREVIATED.split())
"""Words that keep their period, also at the end of a sentence."""

BEFORE_NUMBERS = frozenset({"no", "nos", "fig", "figs", "art", "ca", "op", "pp"})
"""Words that keep their period where a number follows."""

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201b\u2039\u203a", "'"),
        **dict.fromkeys("\u201c\u201d\u00ab\u00bb", '"'),
        **dict.fromkeys("\u2013\u2014\u2015", " -- "),
        **{character: f" {character} " for character in "`\u00b4\u201e\u00a1\u00bf\u00a5"},
        "\u2026": " ... ",
        "\u00ad": "",
        "\u00a3": " # ",
        "\u20ac": " $ ",
        "\u00a2": " cents ",
        "\u00bc": " 1/4 ",
        "\u00bd": " 1/2 ",
        "\u00be": " 3/4 ",
    }
)
"""What the Java program writes for characters outside ASCII."""

_UNTOKENISABLE = re.compile("[\u200b-\u200f\ufeff\ufffd\U00010000-\U0010ffff]")
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_WHOLE = re.compile(
    r"(https?://\S+|[\w.+-]+@[\w-]+\.\w+|[A-Z]+(?:&[A-Z]+)+|(?<!\w)@[A-Za-z]\w*|#[A-Za-z]+|\*{2,}|[?!]{2,})"
)
"""What stays in one piece where nltk would cut it."""
_LONE_SYMBOL = re.compile(r"([~^=|\\©®™°•·×]|(?<!\*)\*(?!\*)|/(?!\S)|(?<!\S)/|(?<=[a-z])\+(?!\S))")
_EDGE_HYPHEN = re.compile(r"(?<!\S)-+(?=[^\W\d])|(?<=\w)-+(?!\S)|-{2,}")
_FULL_STOP = re.compile(r"([^\s.,:;!?\"()\[\]{}]+(?:\.[^\s.,:;!?\"'()\[\]{}]+)*)\.(?=[\s\"'()\[\]{}!?]|$)(\s*\d)?")
_LEADING_QUOTE = re.compile(r"^'(?!(?:s|m|d|t|re|ve|ll|n|em|til|cause)$)(?=[^\W\d])", re.IGNORECASE)


@functools.cache
def _treebank() -> Any:
    from nltk.tokenize import TreebankWordTokenizer  # it takes a second, and few runs compare captions

    return TreebankWordTokenizer()


def tokenise(caption: str) -> str:
    """A caption as the COCO evaluation compares it: lower-case Penn Treebank tokens without punctuation.

    It gives what pycocoevalcap's `PTBTokenizer` (Stanford CoreNLP 3.4.1 in Java, `-lowerCase`, then a list of
    punctuation dropped) gives, down to its habits: brackets stay as `-lrb-` (the list has them in upper case),
    and so do runs such as `??`. It differs on markup, some web addresses, smileys, and abbreviations that are not
    in `ABBREVIATIONS`.

    Args:
        caption: Any text.

    Returns:
        Tokens separated by single spaces; "" where nothing but punctuation is left.

    >>> tokenise("Two dogs' bowls (blue), and it isn't 3.5 ft. deep.")
    "two dogs bowls -lrb- blue -rrb- and it is n't 3.5 ft. deep"
    """
    text = _UNTOKENISABLE.sub(" ", caption.translate(_CHARACTERS))
    text = re.sub(r"(\d)'(?=\d)", r"\1 ' ", text)
    text = re.sub(r"\.{2,}", " ... ", re.sub(r"(\w)\.{2,}", r"\1. ... ", text))
    text = re.sub(r"\b(no|nos)\.(?=\d)", r"\1. ", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<!\S)\.(?=[^\W\d])", " ", text)
    tokens: list[str] = []
    for i, piece in enumerate(_WHOLE.split(text)):
        tokens += [piece] if i % 2 else _tokens(piece)
    kept = [token for token in map(str.lower, tokens) if token not in PUNCTUATIONS]
    return " ".join(kept)


def _tokens(text: str) -> list[str]:
    text = _LONE_SYMBOL.sub(r" \1 ", _EDGE_HYPHEN.sub(" -- ", text))
    # nltk takes a text for one sentence and cuts its last period off whatever the word. Here every period is judged
    # first, and one of our own is put at the end for nltk to cut off.
    raw = _treebank().tokenize(_FULL_STOP.sub(_without_full_stop, text) + " .")
    tokens: list[str] = []
    for token in raw:
        if token == "'" and tokens and tokens[-1].lower() == "'n":
            tokens[-1] += token  # rock 'n' roll
        else:
            tokens.append(_BRACKETS.get(token, _LEADING_QUOTE.sub("", token)))
    return tokens


def _without_full_stop(match: re.Match[str]) -> str:
    word, number = match[1], match[2] or ""
    plain = word.lower().lstrip("'")
    initials = re.fullmatch(r"(?:[^\W\d_]\.)*[^\W\d_]", plain)
    if initials or plain in ABBREVIATIONS or (number and plain in BEFORE_NUMBERS):
        return f"{word}.{number}"
    return f"{word} {number}"

"""Similarity of captions: BLEU-4 and CIDEr-D of pycocoevalcap, on captions that are tokenised already."""

import math
from collections.abc import Mapping, Sequence

from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer

from callbacks.metrics.value import NotAvailable, Value

References = Mapping[str, Sequence[str]]
"""Image name -> one or more captions, tokens separated by spaces (`caption_tokens.tokenise`)."""
Hypotheses = Mapping[str, str]
"""Image name -> the caption to be judged, tokens separated by spaces."""

ORDER = 4
"""Longest n-gram."""


def bleu_4(references: References, hypotheses: Hypotheses) -> Value:
    """BLEU-4 of a set of captions (Papineni et al., 2002): n-gram counts of all images together, reference length
    closest to each caption's.

    It is a figure of the set, not a mean over images.

    Args:
        references: What the captions should say.
        hypotheses: The captions, of the same images.

    Returns:
        A value in [0, 1], higher is better; `NotAvailable` where no caption has four words, since the precision of
        four-grams is then 0 / 0 (pycocoevalcap gives a small number that depends on its smoothing constants).

    Raises:
        ValueError: The images differ, there are none, or an image has no reference.

    >>> round(bleu_4({"a": ["a dog on a sofa"]}, {"a": "a dog on a sofa"}), 6)
    1.0
    """
    names = common_names(references, hypotheses)
    if all(len(hypotheses[name].split()) < ORDER for name in names):
        return NotAvailable(f"BLEU-4 needs a caption of at least {ORDER} words among the reconstructions'")
    scorer = BleuScorer(n=ORDER)
    for name in names:
        scorer += (hypotheses[name], list(references[name]))
    figures, _ = scorer.compute_score(option="closest", verbose=0)
    return float(figures[ORDER - 1])


def cider_d(references: References, hypotheses: Hypotheses) -> Value:
    """CIDEr-D of a set of captions (Vedantam et al., 2015, section 8): mean over the images.

    n-grams are weighted by how rare they are among the references of this very set, so that figures of different
    sets, or of a part and the whole of one, are not comparable. A caption equal to its reference scores 10 if it
    has four words or more (and less if it is shorter, since orders without n-grams count as 0).

    Args:
        references: What the captions should say.
        hypotheses: The captions, of the same images.

    Returns:
        A value in [0, 10], higher is better; `NotAvailable` where no n-gram has weight: for a single image, and where
        the references of all images are the same.

    Raises:
        ValueError: The images differ, there are none, or an image has no reference.
    """
    names = common_names(references, hypotheses)
    if len(names) < 2:
        return NotAvailable("CIDEr-D needs at least 2 images, whose captions tell which words are rare")
    if len({tuple(sorted(set(references[name]))) for name in names}) == 1:
        return NotAvailable("CIDEr-D needs different captions of the originals; all images have the same one")
    scorer = CiderScorer(n=ORDER)
    for name in names:
        scorer += (hypotheses[name], list(references[name]))
    _, scores = scorer.compute_score()
    return math.fsum(scores) / len(scores)


def common_names(references: References, hypotheses: Hypotheses) -> list[str]:
    """Names of the images, sorted: sums then do not depend on the order of the mappings.

    Raises:
        ValueError: The images differ, there are none, or an image has no reference.
    """
    if not references:
        raise ValueError("there are no captions to compare")
    if references.keys() != hypotheses.keys():
        name = sorted(references.keys() ^ hypotheses.keys())[0]
        raise ValueError(f"{name!r} has a caption on one side only")
    if empty := [name for name in references if not references[name]]:
        raise ValueError(f"{empty[0]!r} has no reference")
    return sorted(references)

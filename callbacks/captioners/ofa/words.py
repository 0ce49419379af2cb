"""OFA's tokeniser: GPT-2's byte-level BPE, with names for image codes and coordinates after the words."""

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from callbacks.captioners.ofa.config import BOS, EOS, PAD

_SPECIAL = {"<s>": BOS, "<pad>": PAD, "</s>": EOS, "<unk>": 3}
CODES, BINS = 8192, 1000
"""Tokens <code_i> and <bin_i>, which follow the words of vocab.json in this order."""


class Words:
    """Text to token ids and back.

    Args:
        vocabulary: vocab.json, words to ids.
        merges: merges.txt.

    Raises:
        ValueError: the files are not those of OFA.
        Exception: as the tokenizers package raises it, for files that are no vocabulary.
    """

    def __init__(self, vocabulary: Path, merges: Path) -> None:
        tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        ids = {token: tokenizer.token_to_id(token) for token in _SPECIAL}
        if ids != _SPECIAL:
            raise ValueError(f"vocab.json has special tokens {ids} instead of {_SPECIAL}")
        tokenizer.add_special_tokens([*_SPECIAL, "<mask>"])
        tokenizer.add_tokens([f"<code_{i}>" for i in range(CODES)] + [f"<bin_{i}>" for i in range(BINS)])
        self._tokenizer = tokenizer
        self.size = tokenizer.get_vocab_size()
        """Number of tokens."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text between <s> and </s>."""
        return [BOS, *self._tokenizer.encode(text).ids, EOS]

    def decode(self, ids: list[int]) -> str:
        """Text of ids, without special tokens, with single spaces."""
        return " ".join(self._tokenizer.decode(ids, skip_special_tokens=True).split())

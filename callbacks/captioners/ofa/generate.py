"""Beam search."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from callbacks.captioners.base import CaptionError
from callbacks.captioners.ofa.config import BOS, EOS, PAD
from callbacks.captioners.ofa.decoder import Decoder
from callbacks.captioners.ofa.encoder import Source


@dataclass
class _Finished:
    """Complete sentences about one image."""

    sentences: list[tuple[float, list[int]]] = field(default_factory=list)

    def add(self, score: float, tokens: list[int], limit: int) -> None:
        if len(self.sentences) < limit:
            self.sentences.append((score, tokens))

    def best(self) -> list[int]:
        if not self.sentences:
            raise CaptionError("the captioner's probabilities are no numbers: its weights are damaged")
        return max(self.sentences, key=lambda sentence: sentence[0])[1]


def beam_search(
    decoder: Decoder, source: Source, num_beams: int = 5, max_new_tokens: int = 16, no_repeat_ngram_size: int = 3
) -> list[list[int]]:
    """The most likely sentence about each image, as the OFA authors search for it.

    Of the `2 * num_beams` likeliest continuations, those that end a sentence and are among the first half are kept as
    finished, and the first `num_beams` of the others go on. An image is done with `num_beams` finished sentences, of
    which the one with the highest mean log-probability per token, </s> included, is returned.

    Args:
        decoder: of the model.
        source: images and prompts, encoded.
        num_beams: sentences that are followed at a time; 1 is greedy.
        max_new_tokens: longest sentence, without <s> and </s>.
        no_repeat_ngram_size: no sequence of so many tokens, <s> included, occurs twice in a sentence; 0 allows all.

    Returns:
        B lists of token ids, without <s> and </s>.

    Raises:
        CaptionError: the decoder's outputs are not finite.
    """
    batch, device = len(source.states), source.states.device
    progress = decoder.begin(source, max_new_tokens + 1)
    tokens = torch.full((batch, 1, 1), BOS, device=device)
    scores = torch.zeros(batch, 1, device=device)
    finished = [_Finished() for _ in range(batch)]
    for length in range(max_new_tokens + 1):
        chances = decoder(tokens[:, :, -1:], progress)[:, :, -1].float().log_softmax(-1)
        chances[..., PAD] = -torch.inf
        if length == max_new_tokens:
            chances[..., :EOS] = chances[..., EOS + 1 :] = -torch.inf
        chances = _without_repeats(tokens, chances, no_repeat_ngram_size)
        vocabulary = chances.shape[-1]
        best = (scores[..., None] + chances).flatten(1).topk(min(2 * num_beams, chances[0].numel()))
        beams, following = best.indices // vocabulary, best.indices % vocabulary
        ends = following == EOS

        for image, rank in (ends[:, :num_beams] & best.values[:, :num_beams].isfinite()).nonzero().tolist():
            sentence = tokens[image, int(beams[image, rank]), 1:].tolist()
            finished[image].add(float(best.values[image, rank]) / (length + 1), sentence, num_beams)
        if length == max_new_tokens or all(len(found.sentences) == num_beams for found in finished):
            break

        # A stable sort puts the unfinished first and leaves their order; each beam has one end, so they suffice.
        going_on = ends.long().argsort(dim=1, stable=True)[:, :num_beams]
        beams, following = beams.gather(1, going_on), following.gather(1, going_on)
        scores = best.values.gather(1, going_on)
        tokens = torch.cat([tokens.take_along_dim(beams[..., None], dim=1), following[..., None]], dim=2)
        progress.select(beams)
    return [found.best() for found in finished]


def _without_repeats(tokens: Tensor, chances: Tensor, size: int) -> Tensor:
    """Log-probabilities (B, K, V), -inf for what would repeat `size` tokens of the sentences `tokens` (B, K, L)."""
    if size == 0 or tokens.shape[2] < size:
        return chances
    windows = tokens.unfold(2, size, 1)
    latest = tokens[:, :, None, tokens.shape[2] - size + 1 :]
    repeats = (windows[..., :-1] == latest).all(-1)
    return chances.scatter_add(2, windows[..., -1], torch.where(repeats, -torch.inf, 0.0).to(chances))

"""Content: items that are described like those of the history. Needs no events of other users.

    score(j) = sum over the newest events i_0, i_1, ...  d^k cos(v[i_k], v[j])
    v[i]     = what describes item i, each word or attribute w counted as tf * idf
    idf_w    = log((1 + N) / (1 + items with w)) + 1

Words come from the title, in lower case; an attribute counts as a whole. Vectors: Salton, Wong,
Yang, "A vector space model for automatic indexing", 1975; as a recommender: Pazzani and Billsus,
"Content-based recommendation systems", 2007. Interests move, so validation chooses the
history decay, d.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import sparse

from attnrec.runtime.errors import DataError
from attnrec.train.models.configs import ContentBasedConfig
from attnrec.train.models.neighbours import NeighbourModel, products_of_rows
from attnrec.train.splits.split import Catalogue, Split

_MOST_ITEMS, _FEW_ITEMS = 0.3, 10
# Scripts that put no space between words: Thai to Khmer, kana, Han.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]+"
)


class ContentBased(NeighbourModel):
    """Cosine of TF-IDF vectors."""

    config: ContentBasedConfig

    def fit(self, split: Split) -> None:
        """Compare the descriptions of all items, as sparse products."""
        self.set_prior(split)
        for source, target, weight in products_of_rows(described_vectors(split.catalogue)):
            self.keep_strongest(source, target, weight)


class ContentNeighbours(NeighbourModel):
    """Items that are described alike, by the square of the cosine, as `fusion` adds them.

    Of few neighbours those count that somebody takes: the largest cos^2 sqrt(events) are kept.
    """

    def fit(self, split: Split) -> None:
        """Compare the descriptions."""
        events = np.bincount(split.sequences.rows, minlength=self.config.n_items + 1)
        vectors = described_vectors(split.catalogue, shared=True)
        for source, target, cosine in products_of_rows(vectors):
            weight = cosine**2
            self.keep_strongest(source, target, weight, weight * np.sqrt(1 + events[target]))


def described_vectors(catalogue: Catalogue, *, shared: bool = False) -> Any:
    """TF-IDF vectors of all items, (N, words) in CSR, of length 1 or 0.

    shared: only of words that two items have, and not more than 30 % of all. `DataError` where
    nothing is described.
    """
    # Every command would wait a second for it, and few models need it.
    from sklearn.feature_extraction.text import TfidfVectorizer

    described = list(_descriptions(catalogue))
    if not any(described):
        raise DataError(
            "descriptions of items are compared, and this log has neither titles nor attributes: "
            "give an items table (`items`) with a title column, or name its columns with "
            "`attribute_cols`"
        )
    if shared:
        n_items = Counter(word for words in described for word in set(words))
        most = max(_FEW_ITEMS, _MOST_ITEMS * len(described))
        described = [[word for word in words if 2 <= n_items[word] <= most] for words in described]
        if not any(described):
            return sparse.csr_matrix((len(described), 0))
    return TfidfVectorizer(analyzer=list, dtype=np.float64).fit_transform(described)


def _descriptions(catalogue: Catalogue) -> Iterator[list[str]]:
    """Words and attributes of each item; an attribute is kept apart from the same word."""
    nothing = [()] * catalogue.n_items
    titles = nothing if catalogue.titles is None else catalogue.titles
    attributes = nothing if catalogue.attributes is None else catalogue.attributes
    for title, own in zip(titles, attributes, strict=True):
        yield [*words_of(title or ""), *(f"={text}" for text in own)]


class _Spaces(dict[int, int]):
    """For `str.translate`: a space for all that is no letter, digit or mark of one."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        is_part = character.isalnum() or unicodedata.category(character).startswith("M")
        self[code] = code if is_part else ord(" ")
        return self[code]


_SPACES = _Spaces()


def words_of(text: str) -> list[str]:
    """Words of two characters or more, in lower case; where a script has no spaces, pairs."""
    words: list[str] = []
    for word in unicodedata.normalize("NFKC", text).lower().translate(_SPACES).split():
        if _UNSPACED.search(word) is not None:
            words += _pairs(word)
        elif len(word) > 1:
            words.append(word)
    return words


def _pairs(word: str) -> list[str]:
    """Its spaced parts as they are; of the others every two characters that follow each other."""
    unspaced = _UNSPACED.findall(word)
    spaced = [part for part in _UNSPACED.split(word) if len(part) > 1]
    return spaced + [run[i : i + 2] for run in unspaced for i in range(max(1, len(run) - 1))]

"""Content: items that are described like those of the history. Needs no events of other users.

    score(j) = sum over the newest events i_0, i_1, ...  d^k cos(v[i_k], v[j])
    v[i]     = what describes item i, each word or attribute w counted as tf * idf
    idf_w    = log((1 + N) / (1 + items with w)) + 1

Words come from the title and other texts, in lower case; an attribute counts as a whole. Vectors
of encoders have a cosine of their own, from the mean of the catalogue. TF-IDF: Salton, Wong, Yang,
"A vector space model for automatic indexing", 1975; as a recommender: Pazzani and Billsus,
"Content-based recommendation systems", 2007. What people want moves, so validation chooses the
history decay, d.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from attnrec.runtime.errors import DataError
from attnrec.train.models.configs import ContentBasedConfig, NeighbourConfig
from attnrec.train.models.neighbours import NeighbourModel, products_of_rows
from attnrec.train.splits.split import Catalogue, Split

_Pairs = tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]

_MOST_ITEMS, _FEW_ITEMS = 0.3, 10
_MANY_ITEMS = 5000  # the square of the items with a word is the work
_FEW_NEAREST = 24  # that a new item is made of
_NEAREST = 96  # of each kind, to be mixed
_HALF = 0.5
_LARGEST_STEP = 1 << 23  # cosines in memory at once
# Scripts that put no space between words: Thai to Khmer, kana, Han.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]+"
)


class ContentBased(NeighbourModel):
    """Cosine of TF-IDF vectors, and of those of encoders."""

    config: ContentBasedConfig

    def fit(self, split: Split) -> None:
        """Compare the descriptions of all items; the cosine of words counts like each other."""
        self.set_prior(split)
        describer = Describer(split.catalogue)
        words, vectors = describer.words(split.catalogue), describer.vectors(split.catalogue)
        if vectors is None:
            for source, target, weight in products_of_rows(words):
                self.keep_strongest(source, target, weight)
            return
        n_columns = len(split.catalogue.vectors)
        share = n_columns / (n_columns + bool(words.nnz))
        for source, target, weight in _positive(vectors, words, share):
            self.keep_strongest(source, target, weight)


class ContentNeighbours(NeighbourModel):
    """Items that are described alike, by the square of the cosine, as `fusion` adds them.

    Of few neighbours those count that somebody takes: the largest cos^2 sqrt(events) are kept.
    """

    def fit(self, split: Split) -> None:
        """Compare the descriptions; of words and vectors, each has half of the cosine."""
        catalogue = split.catalogue
        self.compare(Describer(catalogue, shared=True), catalogue, catalogue.n_events)

    def compare(
        self, describer: "Describer", catalogue: Catalogue, n_events: NDArray[np.int64]
    ) -> None:
        """The same of another catalogue than the one of the describer; n_events (N,)."""
        self._taken = np.sqrt(1 + np.append(0, n_events))
        words, vectors = describer.words(catalogue), describer.vectors(catalogue)
        self._kinds = [] if vectors is None else [self._nearest(_positive(vectors))]
        if vectors is None:
            self._keep(products_of_rows(words))
        elif words.nnz:
            self._kinds.append(self._nearest(products_of_rows(words)))
        self.mix(_HALF)

    def mix(self, share: float) -> None:
        """Mix the cosines: vectors have the share, words the rest; one kind counts alone."""
        if len(self._kinds) == 1:
            self._keep([_entries(self._kinds[0])])
        elif self._kinds:
            vectors, words = self._kinds
            self.neighbour.zero_()
            self.weight.zero_()
            self._keep([_entries(share * vectors + (1 - share) * words)])

    def _keep(self, cosines: Iterable[_Pairs]) -> None:
        for source, target, cosine in cosines:
            weight = cosine**2
            self.keep_strongest(source, target, weight, weight * self._taken[target])

    def _nearest(self, cosines: Iterable[_Pairs]) -> Any:
        """Of one kind the cosines that may count in a mixture, (N + 1, N + 1) in CSR."""
        n_rows = self.config.n_items + 1
        kept = ContentNeighbours(replace(self.config, n_neighbours=_NEAREST))
        for source, target, cosine in cosines:
            kept.keep_strongest(source, target, cosine, cosine**2 * self._taken[target])
        columns, values = kept.neighbour.numpy(), kept.weight.numpy()
        ends = np.arange(n_rows + 1) * columns.shape[1]
        matrix = sparse.csr_matrix((values.ravel(), columns.ravel(), ends), shape=(n_rows, n_rows))
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix


def _entries(matrix: Any) -> _Pairs:
    pairs = matrix.tocoo()
    return pairs.row.astype(np.int64), pairs.col, pairs.data


def _positive(
    vectors: NDArray[np.float32], words: Any = None, share: float = 1.0
) -> Iterator[_Pairs]:
    """Cosines above 0 of different rows of vectors, (N, D), and words, as `products_of_rows`."""
    both = None if words is None else (words, words)
    for start, cosine in _cosines((vectors, vectors), both, share):
        np.fill_diagonal(cosine[:, start:], 0)
        yield _above_0(start, cosine)


def _cosines(
    vectors: tuple[NDArray[np.float32], NDArray[np.float32]], words: Any, share: float
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Cosines of rows with all others, some rows at a time, and the first of these."""
    own, others = vectors
    step = max(1, _LARGEST_STEP // len(others))
    for start in range(0, len(own), step):
        rows = slice(start, start + step)
        cosine = share * (own[rows] @ others.T)
        if words is not None:
            cosine += (1 - share) * (words[0][rows] @ words[1].T).toarray()
        yield start, cosine


def _above_0(start: int, cosine: NDArray[np.float32]) -> _Pairs:
    source, target = np.nonzero(cosine > 0)
    return source + start + 1, target + 1, cosine[source, target].astype(np.float64)


def nearest_rows(
    describer: "Describer", new: Catalogue, trained: Catalogue, share: float | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each new item rows of the trained ones like it, (n_new, M), and the squared cosines.

    share: of the vectors in the cosine; None: half, where there are words too. As in
    `ContentNeighbours`, those count that people take. The largest first; 0 where there are fewer.
    """
    words = describer.words(new), describer.words(trained)
    vectors, others = describer.vectors(new), describer.vectors(trained)
    pairs: Iterable[_Pairs]
    if vectors is None or others is None:
        pairs = products_of_rows(*words)
    else:
        share = (_HALF if words[1].nnz else 1.0) if share is None else share
        pairs = (_above_0(*part) for part in _cosines((vectors, others), words, share))
    taken = np.sqrt(1 + np.append(0, trained.n_events))
    n_rows = max(new.n_items, trained.n_items)  # M is cut to the items that there are
    kept = ContentNeighbours(NeighbourConfig(n_rows, n_neighbours=_FEW_NEAREST))
    for source, target, cosine in pairs:
        kept.keep_strongest(source, target, cosine**2, cosine**2 * taken[target])
    weight, order = kept.weight[1 : new.n_items + 1].sort(dim=1, descending=True, stable=True)
    nearest = kept.neighbour[1 : new.n_items + 1].gather(1, order)
    return nearest.numpy().astype(np.int64), weight.numpy()


class Describer:
    """What describes items, as vectors: words are weighed by how many items of one catalogue have
    them, and its mean is taken from the vectors of encoders.

    shared: only words that two items have, and not more than 30 % of all, or 5,000. `DataError`
    where nothing is described.
    """

    def __init__(self, catalogue: Catalogue, *, shared: bool = False) -> None:
        # Every command would wait a second for it, and few models need it.
        from sklearn.feature_extraction.text import TfidfVectorizer

        if not catalogue.is_described():
            raise DataError(
                "descriptions of items are compared, and this log has none: give an items table "
                "(`items`) with titles, texts, attributes or vectors"
            )
        n_known = {name: (v != 0).any(axis=1).sum() for name, v in catalogue.vectors.items()}
        self._means = {
            name: vectors.sum(axis=0) / max(1, n_known[name])  # unknown ones are zeros
            for name, vectors in catalogue.vectors.items()
        }
        described = list(self._words(catalogue))
        if shared:
            n_items = Counter(word for words in described for word in set(words))
            most = max(_FEW_ITEMS, min(_MOST_ITEMS * len(described), _MANY_ITEMS))
            described = [[w for w in words if 2 <= n_items[w] <= most] for words in described]
        self._weights = TfidfVectorizer(analyzer=list, dtype=np.float64)
        self._has_words = any(described)
        if self._has_words:
            self._weights.fit(described)

    def words(self, catalogue: Catalogue) -> Any:
        """TF-IDF vectors of its items, (N, words) in CSR, of length 1 or 0."""
        if not self._has_words:
            return sparse.csr_matrix((catalogue.n_items, 0))
        return self._weights.transform(self._words(catalogue))

    def vectors(self, catalogue: Catalogue) -> NDArray[np.float32] | None:
        """Vectors of encoders of all columns side by side (N, D), of length 1 or 0 each, or None.

        Encoders put all items into one corner: the mean is taken away first.
        """
        columns = []
        for name, mean in self._means.items():
            vectors = catalogue.vectors[name]
            known: NDArray[np.bool_] = (vectors != 0).any(axis=1)
            centred = (vectors - mean) * known[:, None]
            length = np.linalg.norm(centred, axis=1, keepdims=True)
            columns.append(
                np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
            )
        if not columns:
            return None
        side_by_side: NDArray[np.float32] = np.hstack(columns) / np.sqrt(np.float32(len(columns)))
        return side_by_side

    def _words(self, catalogue: Catalogue) -> Iterator[list[str]]:
        """Words and attributes of each item; an attribute is kept apart from the same word."""
        nothing = [()] * catalogue.n_items
        parts = (catalogue.titles, catalogue.texts, catalogue.attributes)
        for title, text, own in zip(*(nothing if p is None else p for p in parts), strict=True):
            words = [*words_of(title or ""), *words_of(text or "")]
            yield [*words, *(f"={value}" for value in own)]


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

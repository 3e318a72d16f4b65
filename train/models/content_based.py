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
from collections.abc import Iterator

import numpy as np

from attnrec.runtime.errors import DataError
from attnrec.train.models.configs import ContentBasedConfig
from attnrec.train.models.neighbours import NeighbourModel, products_of_rows
from attnrec.train.splits.split import Catalogue, Split

_WORD = re.compile(r"\w\w+")


class ContentBased(NeighbourModel):
    """Cosine of TF-IDF vectors."""

    config: ContentBasedConfig

    def fit(self, split: Split) -> None:
        """Compare the descriptions of all items, as sparse products."""
        # Every command would wait a second for it, and no other model needs it.
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.set_prior(split)
        described = list(_descriptions(split.catalogue))
        if not any(described):
            raise DataError(
                "content-based compares what describes the items, and this log has neither "
                "titles nor attributes: give an items table (`items`) with a title column, or "
                "name its columns with `attribute_cols`"
            )
        vectorizer = TfidfVectorizer(analyzer=list, dtype=np.float64)
        vectors = vectorizer.fit_transform(described)  # (N, words), of length 1
        for source, target, weight in products_of_rows(vectors):
            self.keep_strongest(source, target, weight)


def _descriptions(catalogue: Catalogue) -> Iterator[list[str]]:
    """Words and attributes of each item; an attribute is kept apart from the same word."""
    nothing = [()] * catalogue.n_items
    titles = nothing if catalogue.titles is None else catalogue.titles
    attributes = nothing if catalogue.attributes is None else catalogue.attributes
    for title, own in zip(titles, attributes, strict=True):
        yield [*_WORD.findall(title.lower() if title else ""), *(f"={text}" for text in own)]

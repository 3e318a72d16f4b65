"""What rules must do, tag by tag in plain numpy, for the gate to compare with."""

from collections.abc import Iterable
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from attnrec.export.item_rules import ItemRules, column_of
from attnrec.runtime.rules import Rules


class RuleReference:
    """Says for each item of a catalogue whether rules allow it, and how they lift it."""

    def __init__(self, rules: ItemRules, n_items: int) -> None:
        self._rules, self._n_items = rules, n_items

    def allowed(self, rules: Rules) -> NDArray[np.bool_]:
        """Which rows may be shown (N + 1,); row 0 may not."""
        allowed = np.arange(self._n_items + 1) > 0
        for tag in rules.require_all:
            allowed &= self._has(tag)
        columns = {column_of(tag) for tag in rules.require_any}
        for column in columns:
            allowed &= self._have(tag for tag in rules.require_any if column_of(tag) == column)
        allowed &= ~self._have(rules.forbid)
        numbers = self._rules.numbers
        with np.errstate(invalid="ignore"):
            for name, bound in rules.at_least.items():
                allowed[1:] &= numbers[name] >= np.float32(bound)
            for name, bound in rules.at_most.items():
                allowed[1:] &= numbers[name] <= np.float32(bound)
        return allowed

    def boosts(self, rules: Rules) -> NDArray[np.float32]:
        """What is added to the score of each row (N + 1,)."""
        added = np.zeros(self._n_items + 1, np.float32)
        for tag, by in rules.boost.items():
            added += self._has(tag) * np.float32(by * self._rules.boost_unit)
        return added

    def _has(self, tag: str) -> NDArray[np.bool_]:
        mask = np.zeros(self._n_items + 1, dtype=bool)
        mask[self._rules.rows_of(tag)] = True
        return mask

    def _have(self, tags: Iterable[str]) -> NDArray[np.bool_]:
        nothing = np.zeros(self._n_items + 1, dtype=bool)
        return reduce(np.logical_or, map(self._has, tags), nothing)

"""What rules must do, one item and one tag at a time, for the gate to compare with."""

import numpy as np
from numpy.typing import NDArray

from attnrec.export.item_rules import ItemRules, column_of
from attnrec.runtime.rules import Rules


class RuleReference:
    """Answers for each item of a catalogue whether rules allow it, and how they lift it."""

    def __init__(self, rules: ItemRules, n_items: int) -> None:
        self._tags = rules.of_items(n_items)
        self._numbers, self._unit = rules.numbers, rules.boost_unit

    def allowed(self, rules: Rules) -> NDArray[np.bool_]:
        """Which rows may be shown (N + 1,); row 0 may not."""
        columns: dict[str, set[str]] = {}
        for tag in rules.require_any:
            columns.setdefault(column_of(tag), set()).add(tag)
        passes = [
            all(tag in own for tag in rules.require_all)
            and not any(tag in own for tag in rules.forbid)
            and all(not tags.isdisjoint(own) for tags in columns.values())
            for own in self._tags
        ]
        allowed = np.array([False, *passes])
        with np.errstate(invalid="ignore"):
            for name, bound in rules.at_least.items():
                allowed[1:] &= self._numbers[name] >= np.float32(bound)
            for name, bound in rules.at_most.items():
                allowed[1:] &= self._numbers[name] <= np.float32(bound)
        return allowed

    def boosts(self, rules: Rules) -> NDArray[np.float32]:
        """What is added to the score of each row (N + 1,)."""
        added = [sum(rules.boost.get(tag, 0.0) for tag in own) for own in self._tags]
        found: NDArray[np.float32] = np.array([0.0, *added], np.float32) * np.float32(self._unit)
        return found

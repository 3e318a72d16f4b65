"""Calls of the graph for the users of a log."""

from collections.abc import Sequence

from attnrec.export.parity.synthetic_calls import GraphCall, ItemId
from attnrec.runtime.model_file import format as names
from attnrec.train.runs.run import Run
from attnrec.train.splits.held_out import HeldOut

DEPTH = 100
"""How deep the lists of test users are compared; the report counts the top 10."""


def call_of_users(name: str, held_out: HeldOut, users: Sequence[int], run: Run) -> GraphCall:
    """A call for some of the users, with every input of the model."""
    declared = run.model.inputs
    histories: list[list[ItemId]] = [held_out.histories[user].tolist() for user in users]
    has_times = names.TIMESTAMPS in declared
    tags = held_out.side_inputs(declared).get("user_tags")
    return GraphCall(
        name,
        histories,
        DEPTH,
        exclude=[] if run.recipe.repeats else histories,
        users=held_out.users[users].tolist() if names.USER in declared else [],
        user_tags=[list(tags[user]) for user in users] if tags else [],
        timestamps=[held_out.timestamps[user].tolist() for user in users] if has_times else [],
        request_times=held_out.request_times[users].tolist() if has_times else [],
    )

"""The faults that an exporter can have, and which models can have them.

They are put into the exporter; the torch model that the gate compares with is never touched.

    id map off by one, in      every model: at the latest, it excludes another item
    id map off by one, out     every model
    exclude ignored            every model
    candidates ignored         every model
    later rows first           every model, with all weights 0: where no scores are equal, there
                               is no order to get wrong
    one weight off             every model
    last event dropped         where the history counts: not popularity, not models of pairs, which
                               use the user and nothing else
    padding leak               likewise
    state of the event before  TableModels: a ScoreModel has no states
    causal mask off            sasrec, whose older positions attend as well. The one query of
                               attention-pool is that of the newest event, which may see all
    wrong norm epsilon         where a norm is; F.normalize is none, its epsilon guards a zero
    user map off by one        models with the input `user`
    given tags ignored         models with the input `user_tags`
    stored tags ignored        likewise
    request time ignored       models with the input `timestamps`
    times of other events      likewise
    attention turned around    models with the output `attention`
"""

from collections.abc import Callable
from dataclasses import dataclass

import exporter_faults as faults
import onnx_ir as ir

from attnrec.train.models.base import RecommenderModel, TableModel
from attnrec.train.models.pair_model import PairModel
from attnrec.train.models.popularity import Popularity
from attnrec.train.models.sasrec import SASRec

Patch = faults.Patch


@dataclass(frozen=True)
class Fault:
    """Something wrong with the exporter: its head, its body, or the model that it exports."""

    name: str
    """As in the table above."""
    head: Callable[[Patch], None] | None = None
    body: Callable[[ir.Model], None] | None = None
    model: Callable[[RecommenderModel], RecommenderModel] | None = None
    of: Callable[[type[RecommenderModel]], bool] = lambda kind: True
    """Models that can have it."""
    variant: str = ""
    """The one compared model that it is seeded into; empty: all such models."""
    clause: str = "a score is off by"
    """The clause that the gate names."""
    level: bool = False
    """Seeded into a model with the same score for every item."""


def history_counts(kind: type[RecommenderModel]) -> bool:
    return not issubclass(kind, PairModel | Popularity)


def is_table(kind: type[RecommenderModel]) -> bool:
    return issubclass(kind, TableModel)


def is_sasrec(kind: type[RecommenderModel]) -> bool:
    return issubclass(kind, SASRec)


def has_users(kind: type[RecommenderModel]) -> bool:
    return issubclass(kind, PairModel)


def weighs_events(kind: type[RecommenderModel]) -> bool:
    return "state_and_attention" in vars(kind)


TIMED = "sasrec-time-gaps"
NOT_ALLOWED = "an item that may not be returned, or one twice"
FAULTS = [
    Fault("id map off by one, in", faults.ids_shifted_on_the_way_in, clause=""),
    Fault("id map off by one, out", faults.ids_shifted_on_the_way_out, clause=""),
    Fault("exclude ignored", faults.exclude_ignored, clause=NOT_ALLOWED),
    Fault("candidates ignored", faults.candidates_ignored, clause=NOT_ALLOWED),
    Fault("later rows first", faults.later_rows_first, clause="not in order", level=True),
    Fault("one weight off", body=faults.one_weight_off),
    Fault("last event dropped", faults.last_event_dropped, of=history_counts),
    Fault("padding leak", body=faults.padding_visible, of=history_counts),
    Fault("state of the event before", body=faults.state_of_the_event_before, of=is_table),
    Fault("causal mask off", model=faults.causal_mask_off, variant="sasrec"),
    Fault("wrong norm epsilon", body=faults.wrong_epsilon, of=is_sasrec),
    Fault("user map off by one", faults.users_shifted, of=has_users),
    Fault("given tags ignored", faults.given_tags_ignored, of=has_users),
    Fault("stored tags ignored", faults.stored_tags_ignored, of=has_users),
    Fault("request time ignored", body=faults.request_time_ignored, variant=TIMED),
    Fault("times of other events", body=faults.times_of_other_events, variant=TIMED),
    Fault(
        "attention turned around",
        body=faults.attention_of_older_events,
        of=weighs_events,
        clause="attention is not that of the model",
    ),
]

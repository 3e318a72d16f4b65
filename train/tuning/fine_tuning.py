"""From a run to one whose item vectors are rounded: `attnrec-train --init-from RUN`."""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from attnrec.runtime.errors import DataError
from attnrec.train.checks import check_kind
from attnrec.train.data.interactions import Interactions
from attnrec.train.data.report import DataReport
from attnrec.train.data.split import Split, all_events, divide
from attnrec.train.data.unseen import after_time
from attnrec.train.evaluation.metrics import ask, bootstrap_intervals, target_ranks, user_gains
from attnrec.train.evaluation.torch_recommender import Reference
from attnrec.train.evaluation.validation import Validation
from attnrec.train.fitting.checkpoint import Checkpoints, checkpoints_until_saved
from attnrec.train.fitting.config import TrainConfig, check_quantize_aware
from attnrec.train.fitting.device import torch_as_it_was
from attnrec.train.fitting.loop import Progress, fit_by_gradient
from attnrec.train.fitting.state import EpochRecord, best_epoch
from attnrec.train.models.base import RecommenderModel, TableModel
from attnrec.train.report.figures import Reporting, report_figures
from attnrec.train.runs.run import Run
from attnrec.train.runs.target import check_target
from attnrec.train.runs.train import held_out_metrics, report_page, training_identity
from attnrec.train.tuning.rounded_student import RoundedStudent, set_table, table_parameter
from attnrec.train.tuning.rounding import round_table

_EPOCHS = 1
_LEARNING_RATE = 1e-3
_N_STATES = 50_000
_K = 10


@torch_as_it_was()
def fine_tune(
    run: Run,
    *,
    quantize_aware: str = "int4",
    epochs: int = _EPOCHS,
    out: str | Path,
    progress: Progress | None = None,
    resume: bool = False,
    reporting: Reporting | None = None,
) -> Run:
    """Round the item vectors of `run`, train the rest to answer as before; keep it in `out`.

    The new run holds the rounded vectors, so every profile of it has them; `int4` stores them in
    4 bits. Its metrics say under `quantize_aware` how far its validation answers are from those
    of `run`. epochs: passes over the training events; the best of them by validation is kept.
    Raises `ValueError` for a model without item vectors and for another profile.
    """
    check_kind("run", run, Run, "Run.load(directory) reads one")
    check_quantize_aware(quantize_aware)
    exact = _with_table(run)
    check_target(Path(out), resume=resume)
    config = replace(run.config, epochs=epochs, learning_rate=_LEARNING_RATE)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    identity = training_identity(config, run.recipe, run.split, vars(exact.config))
    identity |= {"quantize_aware": quantize_aware, "init_from": _weights_hash(exact)}
    validation = None if run.split.final else Validation(run.split, repeats=run.recipe.repeats)
    with checkpoints_until_saved(Path(out), identity, resume=resume) as checkpoints:
        student, records = _taught(exact, run.split, config, validation, progress, checkpoints)
        metrics = _metrics(run, config, records)
        told = difference(exact, student, run)
        metrics["quantize_aware"] = {"profile": quantize_aware, **told}
        if reporting is not None and validation is not None:
            seconds = records[-1].seconds
            metrics["report"] = report_figures(student, config, validation, seconds, reporting)
        made = Run(Path(out), config, run.recipe, run.data, run.split, student, metrics)
        made.save(report_page(made))
    return made


def _taught(
    exact: TableModel,
    split: Split,
    config: TrainConfig,
    validation: Validation | None,
    progress: Progress | None,
    checkpoints: Checkpoints,
) -> tuple[TableModel, list[EpochRecord]]:
    """A rounded copy of `exact` that was trained to answer like it."""
    torch.manual_seed(config.seed)
    student = copy.deepcopy(exact)
    set_table(student, round_table(exact.item_table().detach(), _states(exact, split)))
    records = fit_by_gradient(
        RoundedStudent(copy.deepcopy(exact), student),
        split,
        config,
        None if validation is None else partial(validation.metrics, student),
        progress,
        checkpoints=checkpoints,
        seen_ndcg=None if validation is None else partial(validation.seen_ndcg, student),
    )
    student.cpu()
    return student, records


def _metrics(run: Run, config: TrainConfig, records: Sequence[EpochRecord]) -> dict[str, Any]:
    """What the new run says of itself; a final one keeps the figures of the run before it."""
    if not run.split.final:
        valid = records[best_epoch(records) - 1].valid
        return held_out_metrics(run.split, config, records, valid, {})
    kept = {name: told for name, told in run.metrics.items() if name != "report"}
    return {**kept, "epochs": [record.to_json() for record in records]}


def _with_table(run: Run) -> TableModel:
    if not isinstance(run.model, TableModel):
        raise ValueError(
            f"nothing to round: {run.config.model} has no item vectors; its smallest file is that "
            "of attnrec-export"
        )
    table_parameter(run.model)
    return run.model


def on_log(run: Run, log: Interactions, report: DataReport) -> Run:
    """`run` on another log with the same items, which may be more or less frequent in it.

    Of what is held out, only what `run` has not seen counts from here on. `DataError` where the
    items differ, nothing of that is left, or it cannot be told without times.
    """
    split = all_events(log) if run.split.final else divide(log, run.config.split)
    before, now = (s.catalogue.item_ids.tolist() for s in (run.split, split))
    new, gone = sorted(set(now) - set(before)), sorted(set(before) - set(now))
    if new or gone:
        raise DataError(
            f"the log has other training items than {run.directory}: {len(new):,} new "
            f"{new[:3]}, {len(gone):,} missing {gone[:3]}; a run goes on with its own items "
            "only: leave the log out, or train anew"
        )
    model = copy.deepcopy(_with_table(run))
    row = {item: number for number, item in enumerate(before, start=1)}
    order = torch.tensor([0, *(row[item] for item in now)])
    set_table(model, model.item_table().detach()[order])
    model.prepare(split)
    split, data = _asked_for_unseen(run, split, report)
    return replace(run, data=data, split=split, model=model)


def _asked_for_unseen(run: Run, split: Split, report: DataReport) -> tuple[Split, dict[str, Any]]:
    """The divided log of a run that goes on from `run`, and its data with what that has seen."""
    data, seen = report.to_json(), run.data.get("seen_before")
    if data["fingerprint"] != run.data["fingerprint"]:
        until = run.seen_until()
        if until is None or data["time_unit"] == "order":
            raise DataError(
                f"the log and that of {run.directory} have no times in common (unit "
                f"{data['time_unit']} and {run.data['time_unit']}) to tell what the run has seen "
                "of the log: leave the log out, or train anew"
            )
        seen = until if seen is None else max(until, seen)
    if seen is None:
        return split, data
    unseen = after_time(split.interactions, seen, str(run.directory))
    split = replace(split, unseen=unseen)
    if not split.final and not split.held_out("valid").histories:
        raise DataError(
            f"the validation targets of the log are {unseen.reason}: nothing is left to measure "
            "the new run with. Leave the log out, or give one that goes on after that"
        )
    return split, data | {"seen_before": seen}


def difference(before: RecommenderModel, after: RecommenderModel, run: Run) -> dict[str, Any]:
    """How far the answers of two models are apart, for everybody who validates.

    Of a final run, which has no validation, for everybody, without NDCG@10.
    """
    split, repeats = run.split, run.recipe.repeats
    asked = split.everybody() if split.final else split.held_out("valid")
    lists = [
        ask(
            Reference(model, split.catalogue, users=split.users),
            asked,
            exclude_seen=not repeats,
            inputs=model.inputs,
        )
        for model in (before, after)
    ]
    pairs = [(a.item_ids[:_K], b.item_ids[:_K]) for a, b in zip(*lists, strict=True)]
    told: dict[str, Any] = {
        "users": len(pairs),
        "overlap@10": float(np.mean([len({*a} & {*b}) / len(a) for a, b in pairs if a])),
        "same_first": float(np.mean([a[:1] == b[:1] for a, b in pairs])),
    }
    if not split.final:
        gains = [user_gains(target_ranks(x, asked), asked.n_targets())["ndcg@10"] for x in lists]
        mean = float(gains[0].mean()) or 1.0  # nothing found before: nothing to lose
        low, high = bootstrap_intervals({"change": gains[1] - gains[0]})["change"]
        told["ndcg@10_change"] = float((gains[1] - gains[0]).mean()) / mean
        told["ndcg@10_change_interval"] = [low / mean, high / mean]
    return told


def _states(model: TableModel, split: Split) -> Tensor:
    """States (n, D) after some of the training events, of users of every length."""
    table = model.item_table()
    states: list[Tensor] = []
    with torch.inference_mode():
        for batch in model.batches(split, batch_events=800).epoch(np.random.default_rng(0)):
            states.append(model.asked_states(batch, table))
            if sum(map(len, states)) >= _N_STATES:
                break
    return torch.cat(states)


def _weights_hash(model: RecommenderModel) -> str:
    return hashlib.sha256(safetensors.torch.save(model.state_dict())).hexdigest()

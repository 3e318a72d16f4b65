"""What `attnrec-export` does once nothing speaks against it."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from attnrec.cli.console import err, fail, say
from attnrec.cli.export_result import cost_table, print_faults, print_success
from attnrec.export import Limits, NoProfile, ParityFailure, ProfileCost, export, export_smallest
from attnrec.export.kit import write_kit
from attnrec.runtime.model_file.format import USER
from attnrec.train import Run


def export_run(
    directory: Path,
    target: Path,
    profiles: Sequence[str] | None,
    limits: Limits,
    max_mb: float | None,
    *,
    allow_users: bool,
    kit: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the file, and the kit, and print what it is; exit code 1 where it may not be."""
    costs: Sequence[ProfileCost] = ()
    started = time.monotonic()
    trained = Run.load(directory)
    if allow_users and USER not in trained.model.inputs:
        say(f"--allow-users: not used, {trained.config.model} knows no users")
    with Progress(console=err, transient=True, disable=quiet) as progress:
        task = progress.add_task("exporting", total=None)

        def tick(done: int, total: int) -> None:
            progress.update(task, description="comparing users", completed=done, total=total)

        def stage(what: str) -> None:
            progress.update(task, description=what)

        try:
            if profiles == ("fp32",) and max_mb is None:
                export(trained, target, tick=tick, allow_users=allow_users)
            else:
                _, costs = export_smallest(
                    trained, target, profiles, limits=limits, max_mb=max_mb,
                    tick=tick, stage=stage, allow_users=allow_users,
                )  # fmt: skip
        except ParityFailure as failure:
            progress.stop()
            print_faults(failure.report)
            fail(str(failure), code=1)
        except NoProfile as failure:
            progress.stop()
            err.print(cost_table(failure.costs))
            fail(f"{failure}. Allow more with {_remedy(profiles)}", code=1)
    if kit is not None:
        write_kit(target, kit)
    print_success(target, kit, time.monotonic() - started, costs, as_json)


def _remedy(profiles: Sequence[str] | None) -> str:
    """The options that decide about these profiles; None: all there are."""
    if profiles == ("fp32",):
        return "--max-mb"
    options = "--min-overlap, --max-ndcg-loss or --max-mb"
    return options if profiles is None else f"{options}, or leave --quantize out"

"""`attnrec compare`: which model suits a log."""

from pathlib import Path
from typing import Annotated

import typer

from attnrec.cli.console import Json, command
from attnrec.cli.options import Resume, Shared, with_training_options
from attnrec.export.comparison_directory import check_comparison_directory


@with_training_options(one_model=False)
@command
def compare(
    context: typer.Context,
    shared: Shared,
    out: Annotated[
        Path, typer.Option(help="Folder to write: a run of each model, and the comparison.")
    ] = Path("attnrec-all"),
    allow_users: Annotated[
        bool, typer.Option("--allow-users", help="Also models whose files hold user ids.")
    ] = False,
    folds: Annotated[
        int | None,
        typer.Option(help="With --split time: compare at so many cuts, window by window back."),
    ] = None,
    resume: Resume = False,
    as_json: Json = False,
) -> None:
    """Train and export every model on a log, each as it is, and compare the files.

    The figures are those of attnrec-evaluate on the test events. A model that the log is not made
    for is left out, with the reason. To train the model that you choose: attnrec-train --model
    NAME.
    """
    options = shared()
    if folds is not None:
        from attnrec.cli.folds import compare_folds_and_print

        compare_folds_and_print(
            options, out, folds, allow_users=allow_users, resume=resume, as_json=as_json
        )
        return
    check_comparison_directory(out, resume=resume)
    # Only here: it needs torch.
    from attnrec.cli.training import compare_and_print

    compare_and_print(options, out, allow_users=allow_users, resume=resume, as_json=as_json)

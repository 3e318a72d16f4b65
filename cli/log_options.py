"""The options of `attnrec-train` that say what is in a log, and what of it counts."""

from pathlib import Path
from typing import Annotated

import typer

from attnrec.train.data.recipe import IdType, SplitName, TimeUnit

_READ = "Reading the log"
_FILTER = "Which events count"

ItemsTable = Annotated[
    Path | None, typer.Option(help="Table with item ids and titles.", rich_help_panel=_READ)
]
UsersTable = Annotated[
    Path | None, typer.Option(help="Table with user ids and tags.", rich_help_panel=_READ)
]
UserCol = Annotated[str, typer.Option(rich_help_panel=_READ)]
ItemCol = Annotated[str, typer.Option(rich_help_panel=_READ)]
TimeCol = Annotated[str, typer.Option(rich_help_panel=_READ)]
EventCol = Annotated[str, typer.Option(rich_help_panel=_READ)]
RatingCol = Annotated[str, typer.Option(rich_help_panel=_READ)]
TitleCol = Annotated[str, typer.Option(help="'': the items have none.", rich_help_panel=_READ)]
AttributeCols = Annotated[
    str,
    typer.Option(help="Columns of --items that describe them, by commas.", rich_help_panel=_READ),
]
TagCols = Annotated[
    str,
    typer.Option(help="Columns of --users that describe them, by commas.", rich_help_panel=_READ),
]
IdTypeOption = Annotated[
    IdType,
    typer.Option(
        help="auto: int64 if every id is one, also as 12.0; string: as written.",
        rich_help_panel=_READ,
    ),
]
TimeUnitOption = Annotated[
    TimeUnit, typer.Option(help="order: not times, only places.", rich_help_panel=_READ)
]
SplitOption = Annotated[
    SplitName,
    typer.Option(
        help="What is held back: the last two events of each user, or the last two sessions, "
        "events of one time, for baskets.",
        rich_help_panel=_FILTER,
    ),
]
Repeats = Annotated[
    bool,
    typer.Option(
        "--repeats/--no-repeats",
        help="People take the same item again, and may be recommended it.",
        rich_help_panel=_FILTER,
    ),
]
MinRating = Annotated[
    float | None, typer.Option(help="Lowest rating that counts.", rich_help_panel=_FILTER)
]
EventTypes = Annotated[
    str, typer.Option(help="Event types that count, by commas.", rich_help_panel=_FILTER)
]
EventWeights = Annotated[
    str,
    typer.Option(
        help="Weight of event types in training, such as cart=2,purchase=4. Others: 1.",
        rich_help_panel=_FILTER,
    ),
]
MinItemEvents = Annotated[int, typer.Option(help="Drop rarer items.", rich_help_panel=_FILTER)]
MinUserEvents = Annotated[int, typer.Option(help="Drop shorter users.", rich_help_panel=_FILTER)]

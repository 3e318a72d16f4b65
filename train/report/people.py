"""The part of the page that shows people: what they took, were recommended, and took next."""

from collections.abc import Mapping, Sequence
from typing import Any

from attnrec.train.fitting.config import TrainConfig
from attnrec.train.report.elements import Content, Markup, section, tag

Item = Mapping[str, Any]


def examples_section(people: Sequence[Mapping[str, Any]], config: TrainConfig) -> Markup:
    """Each beside the others."""
    intro = (
        f"{len(people)} people of the validation, drawn by seed {config.seed}, from short to long "
        "histories. Another --seed shows others."
    )
    return section(
        "What it recommends",
        tag("p", intro),
        tag("div", *map(_person, people), class_="people"),
    )


def _person(person: Mapping[str, Any]) -> Markup:
    events, came = person["events"], person["next"]
    n_events = person["n_events"]
    shown = "" if n_events == len(events) else f", the last {len(events)}"
    next_ids = {item["id"] for item in came}
    more = person["n_next"] - len(came)
    return tag(
        "article",
        tag("h3", f"A history of {n_events:,} event{'' if n_events == 1 else 's'}"),
        tag("h4", f"took{shown}"),
        tag("ol", *(tag("li", _name(item)) for item in events), class_="took"),
        tag("h4", "recommended"),
        tag("ol", *(_recommended(item, next_ids) for item in person["recommended"])),
        tag("h4", "took next"),
        tag(
            "ul",
            *(tag("li", _name(item), " ", _place(item, person)) for item in came),
            *([tag("li", f"and {more} more")] if more else []),
        ),
    )


def _recommended(item: Item, next_ids: set[int | str]) -> Markup:
    if item["id"] not in next_ids:
        return tag("li", _name(item))
    return tag("li", tag("mark", _name(item), " \N{CHECK MARK} taken next"))


def _place(item: Item, person: Mapping[str, Any]) -> Content:
    if any(item["id"] == shown["id"] for shown in person["recommended"]):
        return tag("small", "in the list")
    if item["rank"] is None:
        return tag("small", "no training event, so nothing can recommend it")
    return tag("small", f"rank {item['rank']:,}")


def _name(item: Item) -> Content:
    return str(item.get("title", item["id"]))

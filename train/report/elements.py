"""HTML as values. Everything that comes from a log goes through `text`, so that it stays text."""

from collections.abc import Iterable, Sequence
from html import escape


class Markup(str):
    """HTML that is safe as it stands; any other string is text that has to be escaped."""

    __slots__ = ()


Content = str | Markup


def text(content: object) -> Markup:
    """Content as HTML: `Markup` as it is, everything else escaped."""
    return content if isinstance(content, Markup) else Markup(escape(str(content)))


def tag(name: str, *contents: Content, **attributes: str) -> Markup:
    """An element; `class_` for class, `for_x` likewise."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{told}>{''.join(map(text, contents))}</{name}>")


def lines(*contents: Content) -> Markup:
    """One after the other."""
    return Markup("\n".join(map(text, contents)))


def table(
    caption: Content,
    columns: Sequence[Content],
    rows: Iterable[Sequence[Content]],
    *,
    kind: str = "",
    marked: Iterable[int] = (),
) -> Markup:
    """A table whose rows begin with their header; `marked` rows stand out.

    The last cell of a row that is too short fills it.
    """
    emphasized = set(marked)
    head = tag("tr", *(tag("th", column, scope="col") for column in columns))
    body = []
    for number, (first, *others, last) in enumerate(rows):
        missing = len(columns) - len(others) - 2
        span = {"colspan": str(missing + 1)} if missing else {}
        cells = (
            tag("th", first, scope="row"),
            *(tag("td", cell) for cell in others),
            tag("td", last, **span),
        )
        look = {"class_": "own"} if number in emphasized else {}
        body.append(tag("tr", *cells, **look))
    made = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    # Keyboards reach what only scrolls if it can be focused.
    return tag("div", made, class_=f"scroll {kind}".strip(), tabindex="0")


def picture(svg: str, caption: Content) -> Markup:
    """A drawing with its caption."""
    return tag("figure", Markup(svg), tag("figcaption", caption))


def section(title: str, *contents: Content) -> Markup:
    """A part of the page."""
    return tag("section", tag("h2", title), lines(*contents))

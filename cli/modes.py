"""Options that a command does not read in the way it is called: refused by their names."""

from collections.abc import Collection, Mapping

import typer

EVERYWHERE = frozenset({"as_json", "verbose", "quiet", "version"})
"""How a command speaks, whatever it does."""


def given(context: typer.Context) -> dict[str, str]:
    """What stands on the command line: the name of each parameter, and how a person writes it."""
    written = {}
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        off = parameter.secondary_opts and not context.params[name]
        if parameter.param_type_name == "argument":
            written[name] = str(parameter.metavar or name).upper()
        else:
            written[name] = parameter.secondary_opts[0] if off else parameter.opts[0]
    return written


def refuse_unread(
    context: typer.Context,
    reads: Collection[str],
    why: str,
    remedy: str,
) -> None:
    """`ValueError` for a parameter on the command line that is not among those that are read.

    why: what the command does instead, "--final repeats the recipe of its run"; remedy: what to do
    but leave the option out.
    """
    for name, option in given(context).items():
        if name not in reads and name not in EVERYWHERE:
            raise ValueError(
                f"{why}, so {option} cannot be given with it: leave it out, or {remedy}"
            )


def refuse_idle(context: typer.Context, needs: Mapping[str, tuple[bool, str]]) -> None:
    """`ValueError` for a parameter on the command line that changes nothing beside the others.

    needs: for parameters, whether they are read here, and what they are read with.
    """
    for name, option in given(context).items():
        is_read, needed = needs.get(name, (True, ""))
        if not is_read:
            raise ValueError(
                f"{option} is read only with {needed}: leave it out, or give that too"
            )

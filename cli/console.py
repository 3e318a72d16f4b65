"""What all commands share: how they start, print and fail. Needs typer, no training stack."""

import inspect
import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from attnrec.runtime.errors import AttnrecError
from attnrec.runtime.files import FULL, check_replaceable
from attnrec.runtime.version import __version__

# Ids, titles and paths hold brackets and colons: no text of ours is markup.
err = Console(stderr=True, highlight=False, markup=False, emoji=False)
"""Progress and messages; standard output belongs to results."""
out = Console(highlight=False, markup=False, emoji=False)
"""Results as tables and text."""

# The options of the command that runs, such as "--user-col".
_OPTIONS: ContextVar[frozenset[str]] = ContextVar("options", default=frozenset())
# How the library names a setting: `user_col`, or with a value `ease=false`.
_SETTING = re.compile(r"`([a-z]\w*)(?:=([^`]+))?`")


def say(message: str) -> None:
    """One line on standard error, as it is: not wrapped, so that paths in it can be copied."""
    err.print(message, soft_wrap=True)


def with_options(message: str) -> str:
    """A message of the library with its settings written as the options of this command.

    A setting without an option of its own is one of the model, for --set where there is that;
    else it stays as it is.
    """

    def option(match: re.Match[str]) -> str:
        name, value = match.groups()
        if value == "''":  # nothing, as a person writes it
            value = ""
        own = "--" + name.replace("_", "-")
        if own in _OPTIONS.get():
            return own if value is None else f"{own} {shlex.quote(value)}"
        if "--set" in _OPTIONS.get():
            return f"--set {name if value is None else shlex.quote(f'{name}={value}')}"
        return match[0]

    return _SETTING.sub(option, message)


class _LinesAboveBars(logging.Handler):
    """Log records as lines above a progress bar, not within it."""

    def emit(self, record: logging.LogRecord) -> None:
        say(with_options(self.format(record)))


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"attnrec {__version__}")
        raise typer.Exit


Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, for scripts.")
]
_VERSION = typer.Option(
    "--version", callback=_print_version, is_eager=True, help="Print the version."
)
_COMMON = {
    "verbose": typer.Option("--verbose", "-v", help="Print more on standard error."),
    "quiet": typer.Option("--quiet", "-q", help="Print nothing but results and errors."),
    "version": _VERSION,
}
EVERYWHERE = frozenset({"as_json", *_COMMON})
"""Parameters that decide how a command prints, whatever it does."""
Version = Annotated[bool, _VERSION]

Command = Callable[..., None]


def command(function: Command) -> Command:
    """Make a command of a function: with --verbose, --quiet and --version."""

    @wraps(function)
    def extended(*shared: Any, verbose: bool, quiet: bool, version: bool, **values: Any) -> None:
        _set_verbosity(verbose=verbose, quiet=quiet)
        function(*shared, **values)

    own = inspect.signature(function).parameters.values()
    common = [keyword(name, bool, False, option) for name, option in _COMMON.items()]
    return with_parameters(extended, [*own, *common])


def keyword(name: str, kind: Any, default: Any, described: Any) -> inspect.Parameter:
    """A parameter of a command; described: `typer.Option` or `typer.Argument`."""
    annotation = Annotated[kind, described]
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def with_parameters(function: Command, parameters: Sequence[inspect.Parameter]) -> Command:
    """Declare these parameters to typer; their order is that of the help."""
    keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    function.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    return function


def run_command(
    command: Command, argv: Sequence[str] | None = None, *, prefix: str = "attnrec-"
) -> None:
    """Parse the arguments (by default the process's), run, exit: 0, 1, 2 or 130.

    prefix: what stands before the name of the command in its usage.
    """
    _accept_any_text()
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    # Inside of typer's own handling, which ends an interrupted program without a word.
    app.command()(clean_errors()(command))
    parser = typer.main.get_command(app)
    for parameter in parser.params:
        _refuse_empty_path(parameter)
        if getattr(parameter, "hidden", False):
            parameter.get_usage_pieces = lambda ctx: []  # type: ignore[method-assign]
    # Lines of a paragraph are wrapped by the terminal, not where the source wraps them.
    parser.help = re.sub(r"(?<!\n)\n(?!\n)", " ", parser.help or "")
    texts: list[Any] = [parser, *parser.params]
    for text in texts:  # attnrec[tune] is no markup either
        text.help = escape(text.help) if getattr(text, "help", None) else None
    _OPTIONS.set(frozenset(name for parameter in parser.params for name in parameter.opts))
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        with clean_errors():  # also where help cannot be written
            parser(args=arguments, prog_name=f"{prefix}{command.__name__}")
    except BrokenPipeError:
        # The reader of the output has gone (`| head`): there is nobody to print an error for.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _refuse_empty_path(parameter: Any) -> None:
    """Refuse a path that is '', as from an unset variable of a shell: `Path('')` is "."."""
    if parameter.type_descriptor.annotation not in (Path, list[Path]):
        return
    process = parameter.process_value

    def checked(context: Any, value: Any) -> Any:
        if value == "" or (isinstance(value, list | tuple) and "" in value):
            shown = str(parameter.metavar or parameter.name).upper().strip("[].")
            name = parameter.opts[0] if parameter.param_type_name == "option" else shown
            raise ValueError(f"{name} is '': name a file or a folder, or leave it out")
        return process(context, value)

    parameter.process_value = checked


def _accept_any_text() -> None:
    """Read and print any character, whatever the encoding of the system (Windows, a C locale).

    JSON lines are UTF-8 everywhere; a byte that is not becomes an id that is refused. A standard
    input that is closed holds nothing.
    """
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BytesIO())
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def clean_errors() -> Iterator[None]:
    """Print one message and exit with code 2 in place of a traceback."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (AttnrecError, ValueError) as error:
        fail(_with_notes(str(error), error))
    except OSError as error:
        # A file that is written has a name in the error, standard output has none.
        place = error.filename or ("standard output" if error.errno in FULL else None)
        what = f"{place}: {error.strerror}" if place and error.strerror else str(error)
        remedy = "make room there, or name another place; " if error.errno in FULL else ""
        fail(_with_notes(f"{what}; {remedy}earlier files are as they were", error))
    except KeyboardInterrupt as error:
        code = 128 + getattr(error, "number", 2)  # of the signal, by default that of Ctrl-C
        fail(_with_notes("interrupted; earlier files are as they were", error), code=code)


def _with_notes(message: str, error: BaseException) -> str:
    """With what the library added to the error, such as how to go on."""
    return "\n".join([message, *getattr(error, "__notes__", ())])


def check_picture(path: Path) -> None:
    """Refuse, before anything is measured, a --plot that could not be written."""
    if path.suffix != ".png" or not path.absolute().parent.is_dir():
        raise ValueError(f"--plot {path}: name a .png file in a directory that exists")
    check_replaceable(path, "--plot")


def fail(message: str, *, code: int = 2) -> None:
    """Print the message and exit."""
    print(f"error: {with_options(message)}", file=sys.stderr)
    raise SystemExit(code)


def given_options(context: typer.Context) -> dict[str, str]:
    """Parameters that stand on the command line, by name, as they are written: --no-report."""
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


def refuse_idle(context: typer.Context, needs: Mapping[str, tuple[bool, str]]) -> None:
    """`ValueError` for a parameter on the command line that has no effect with the others.

    needs: for parameters, whether they are read here, and what they are read with.
    """
    for name, option in given_options(context).items():
        is_read, needed = needs.get(name, (True, ""))
        if not is_read:
            raise ValueError(
                f"{option} is read only with {needed}: leave it out, or give that too"
            )


def _set_verbosity(*, verbose: bool, quiet: bool) -> None:
    """Warnings by default, all with -v, errors with -q."""
    if verbose and quiet:
        raise ValueError("-v and -q exclude each other")
    level = logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(format="%(message)s", handlers=[_LinesAboveBars()], force=True)
    logging.getLogger("attnrec").setLevel(level)
    err.quiet = quiet

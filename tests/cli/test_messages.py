"""Advice works: every option, setting and function that a message names is there for its reader.

A message of the library reaches people who call it from Python and people who give a command. It
names a setting as `name` or `name=value`, which a command prints as its own option, or names both
forms, "--resume (resume=True)". A message of a command names the options of that command.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import typer

import attnrec.export
import attnrec.runtime
import attnrec.train
from attnrec.cli.bench.command import bench
from attnrec.cli.compare import compare
from attnrec.cli.evaluate import evaluate
from attnrec.cli.export import export
from attnrec.cli.recommend.command import recommend
from attnrec.cli.serve import serve
from attnrec.cli.train import train
from attnrec.cli.tune import tune
from attnrec.train.models import MODELS

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "train": train, "tune": tune, "compare": compare, "export": export, "evaluate": evaluate,
    "recommend": recommend, "bench": bench, "serve": serve,
}  # fmt: skip
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
# Options of other programs, by the words before it.
OTHER_TOOLS = re.compile(r"(?:torchrun|pip|openssl)[^;:]*")
# The report of a run is written by `attnrec-train`, for people who use it.
OF_TRAIN = ("train/report/", "train/splits/baskets.py")
# Copied to a device, where it is a program of its own with its own options.
NOT_OURS = "export/kit/"


def options_of(command: str) -> set[str]:
    app = typer.Typer(add_completion=False)
    app.command()(COMMANDS[command])
    parameters = typer.main.get_command(app).params
    return {name for p in parameters for name in (*p.opts, *p.secondary_opts)} | {"--help"}


OPTIONS = {command: options_of(command) for command in COMMANDS}


def public_functions() -> Iterator[tuple[str, inspect.Signature]]:
    for package in (attnrec.train, attnrec.export, attnrec.runtime):
        for name in package.__all__:
            value = getattr(package, name)
            if callable(value) and not (isinstance(value, type) and issubclass(value, Exception)):
                yield name, inspect.signature(value)
    for name in ("load", "recommend", "recommend_batch", "similar", "explain"):
        yield name, inspect.signature(getattr(attnrec.runtime.Recommender, name))
    for name in ("with_catalog", "with_recent"):
        yield name, inspect.signature(getattr(attnrec.train.Run, name))


FUNCTIONS = dict(public_functions())
SETTINGS = {
    *(name for signature in FUNCTIONS.values() for name in signature.parameters),
    *(f.name for kind in MODELS.values() for f in fields(kind.config)),
}


def words(node: ast.AST) -> str:
    """A literal, with "{}" for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            words(part) if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
    return ""


def messages(folder: str) -> Iterator[tuple[str, str]]:
    """Every text of a folder that is no docstring, with where it stands."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name.startswith(NOT_OURS):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skipped = {id(e.value) for e in ast.walk(tree) if isinstance(e, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                skipped |= {id(part) for part in node.values}
        for node in ast.walk(tree):
            if id(node) not in skipped and (text := words(node)):
                yield f"{name}:{getattr(node, 'lineno', 0)}", text


def named(text: str) -> Iterator[tuple[str | None, str]]:
    """Options in a text, each with the command that stands before it."""
    text = OTHER_TOOLS.sub("", text)
    for option in OPTION.finditer(text):
        before = re.findall(r"attnrec[- ]([a-z]+)\b(?!/)", text[: option.start()])
        yield before[-1] if before else None, option[0]


@pytest.mark.parametrize("folder", ["train", "export", "runtime"])
def test_the_library_names_settings_and_options_only_where_they_are(folder: str) -> None:
    wrong = []
    for place, text in messages(folder):
        for command, option in named(text):
            name = option[2:].replace("-", "_")
            if place.startswith(OF_TRAIN):
                known = option in OPTIONS["train"]
            elif place.startswith("runtime/serving/"):
                known = option in OPTIONS["serve"]
            elif command is not None:
                known = option in OPTIONS.get(command, ())
            else:
                as_argument = f"{name}=" in text and name in SETTINGS
                as_function = f"{name}(" in text and name in FUNCTIONS
                known = (as_argument or as_function) and option in OPTIONS["train"]
            if not known:
                wrong.append(f"{place} {option}: {text[:90]}")
    assert wrong == []


def test_settings_in_messages_are_settings() -> None:
    wrong = [
        f"{place} {name}"
        for folder in ("train", "export", "runtime")
        for place, text in messages(folder)
        for name in re.findall(r"`([a-z]\w*)(?:=[^`\s]+)?`", text)
        if name not in SETTINGS | FUNCTIONS.keys()
    ]
    assert wrong == []


def test_functions_and_arguments_in_messages_are_there() -> None:
    wrong = []
    for folder in ("train", "export", "runtime", "cli"):
        for place, text in messages(folder):
            for function, argument in re.findall(r"\b(\w+)\(\.\.\., (\w+)=", text):
                if argument not in FUNCTIONS[function].parameters:
                    wrong.append(f"{place} {function}({argument}=)")
            for argument in re.findall(r"\((\w+)=(?:True|False)\)", text):
                if argument not in SETTINGS:
                    wrong.append(f"{place} {argument}=")
            for command in re.findall(r"\battnrec-([a-z]+)\b(?![/.])", text):
                if command not in {*COMMANDS, "run", "all"}:
                    wrong.append(f"{place} attnrec-{command}")
    assert wrong == []


def commands_of(place: str) -> list[str]:
    """The commands that a module of cli/ belongs to."""
    stem = Path(place.partition(":")[0]).stem
    own = [command for command in COMMANDS if stem == command or stem.startswith(f"{command}_")]
    return own or [*COMMANDS]


def test_a_command_names_its_own_options() -> None:
    wrong = []
    for place, text in messages("cli"):
        for command, option in named(text):
            asked = [command] if command in COMMANDS else commands_of(place)
            # What all commands share is declared once, and read by those that have it.
            anywhere = len(asked) == len(COMMANDS)
            known = [option in OPTIONS[name] for name in asked]
            if not (any(known) if anywhere else all(known)):
                wrong.append(f"{place} {option}: {text[:90]}")
    assert wrong == []

"""Mistakes on the command line itself, in the words of all other errors."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

import typer

from simserve.errors import nearest

# Typer's base of them, which it does not export.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def run_group(group: typer.Typer, args: list[str], name: str) -> None:
    """Run a group of commands inside of a command; what is wrong is left to the outermost.

    Args:
        group: The group.
        args: Its arguments.
        name: How it is called: `simserve trace`.
    """
    status = group(args=args, prog_name=name, standalone_mode=False)
    if status:
        raise typer.Exit(status)


def print_usage_error(error: Any) -> None:
    """Print what is wrong with a command line, and which command shows what is right, to standard error.

    Args:
        error: A `UsageError` of Typer's.
    """
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
        error.show()
        return
    print(f"simserve: error: {_describe(error)}", file=sys.stderr)
    if error.ctx is not None:
        print(f"`{error.ctx.command_path} --help` shows what it takes", file=sys.stderr)


def _describe(error: Any) -> str:
    context = error.ctx
    option = getattr(error, "option_name", None)
    if option is not None and getattr(error, "possibilities", None) is not None:
        known = [name for each in context.command.params for name in (*each.opts, *each.secondary_opts)]
        return f"unknown option {option!r}{_near(option, filter(_is_option, known))}"
    text = " ".join(error.format_message().split())
    command = re.match(r"No such command '(.*?)'", text)
    if command is not None:
        known = context.command.list_commands(context)
        return f"unknown command {command[1]!r}{nearest(command[1], known)}"
    value = _describe_value(error)
    if value:
        return value
    return f"{text[:1].lower()}{text[1:]}".removesuffix(".")


def _is_option(name: str) -> bool:
    return name.startswith("--")


def _near(name: str, known: Iterable[str]) -> str:
    hint = nearest(name, known)
    return hint if "did you mean" in hint else ""


def _describe_value(error: Any) -> str:
    """Return what is wrong with an option's value, where pydantic has read it for Typer; or ""."""
    parameter, reason = getattr(error, "param", None), error.__cause__
    if parameter is None or not hasattr(reason, "errors"):
        return ""
    from simserve.scenario.problems import expected_of, show

    problem = reason.errors()[0]
    expected = expected_of(problem["type"], problem.get("ctx", {}))
    if expected is None:
        return ""
    name = max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.name
    return f"{name}: expected {expected}, got {show(problem['input'])}"

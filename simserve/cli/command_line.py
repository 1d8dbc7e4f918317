"""The command that is being run, as it could be typed again."""

from __future__ import annotations

import shlex
from collections.abc import Collection

import typer


def typed_command(context: typer.Context, leave_out: Collection[str] = ()) -> str:
    """Return a command with what was given on the command line.

    Args:
        context: Of the command.
        leave_out: Names of parameters that are not to be told.
    """
    words = ["simserve", str(context.info_name)]
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or name in leave_out:
            continue
        value = context.params[name]
        values = value if isinstance(value, list | tuple) else [value]
        for each in values:
            if parameter.param_type_name == "argument":
                words.append(str(each))
            else:
                option = max(parameter.opts, key=len)
                words += [option] if isinstance(each, bool) else [option, str(getattr(each, "value", each))]
    return shlex.join(words)

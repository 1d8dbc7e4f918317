"""Options and arguments that take one of a few words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar

from simserve.errors import InputError, nearest

Word = TypeVar("Word", bound=StrEnum)
_NO_WORDS: Mapping[str, str] = {}


class Explain(StrEnum):
    """What `run --explain` explains."""

    MEMORY = "memory"
    STEP = "step"


class Catalog(StrEnum):
    """What `list` lists."""

    MODELS = "models"
    HARDWARE = "hardware"
    ROUTERS = "routers"
    SCHEDULERS = "schedulers"
    ORDERS = "orders"
    EVICTIONS = "evictions"
    SCENARIOS = "scenarios"
    TRACES = "traces"


# Words that people try: of one, and of what other tools call them.
CATALOG_ALIASES = {word.removesuffix("s"): word.value for word in Catalog} | {
    **dict.fromkeys(("gpu", "gpus", "accelerators", "devices"), "hardware"),
    **dict.fromkeys(("engine", "engines", "kinds", "policies"), "schedulers"),
}


def words(choices: type[StrEnum]) -> str:
    """Return the words as `--help` shows them: `memory|step`."""
    return "|".join(choices)


def one_of(name: str, choices: type[Word], aliases: Mapping[str, str] = _NO_WORDS) -> Callable[[str], Word]:
    """Return what reads one of the words, whatever its case.

    Args:
        name: Of the option or argument, for messages.
        choices: The words.
        aliases: Other words that people use, and those that they stand for.

    Returns:
        A function that raises an InputError, with the nearest word, for any other text.
    """

    def read(text: str) -> Word:
        word = text.strip().lower()
        word = aliases.get(word, word)
        valid = [choice.value for choice in choices]
        if word not in valid:
            hint = nearest(word, valid)
            expected = f"{', '.join(valid[:-1])} or {valid[-1]}"
            meant = hint if "did you mean" in hint else ""
            raise InputError(f"{name}: expected {expected}, got {text!r}{meant}")
        return choices(word)

    return read

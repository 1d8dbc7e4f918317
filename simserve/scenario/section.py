"""What all sections of a scenario share: frozen, unknown keys refused, no silent conversions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """Base of every mapping in a scenario.

    Types are strict (`"64"` and `true` are no integers, an integer is a float), NaN and infinity are refused.
    Validators are built when they are first used, which saves a fifth of the time to load a scenario.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


def combination_error(key: str, message: str) -> PydanticCustomError:
    """Return an error for a section whose keys do not go together, to be raised by its validator.

    Args:
        key: The key of the section at which the loader points.
        message: What is wrong and what was expected.
    """
    context: dict[str, Any] = {"key": key, "message": message}
    return PydanticCustomError("combination", "{message}", context)

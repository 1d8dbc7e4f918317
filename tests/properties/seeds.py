"""Seeds of random scenarios in groups: the first in the default suite, the rest in `make test-slow`."""

from __future__ import annotations

from typing import Any

import pytest


def seed_groups(total: int, group: int, fast: int) -> list[Any]:
    """Return the first seed of each group; from `fast` on they are marked slow."""
    firsts = range(0, total, group)
    return [first if first < fast else pytest.param(first, marks=pytest.mark.slow) for first in firsts]

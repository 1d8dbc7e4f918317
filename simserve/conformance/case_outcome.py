"""How a case of a log compares with the class under test: what is checked, and the first difference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from simserve.conformance.checker import Checker
from simserve.errors import InputError, SimserveError

# What is compared, what the log has, and what the class under test gave.
Pair = tuple[str, Any, Any]


@dataclass(frozen=True, slots=True)
class CaseOutcome:
    """How one case compares.

    Attributes:
        file, name: The log's path as given, and the case's name.
        checks: How many things were compared.
        agreed: How many of them agree.
        failures: The first difference, in words; empty if there is none.
    """

    file: str
    name: str
    checks: int
    agreed: int
    failures: tuple[str, ...]


def compare_operations(
    file: str, name: str, operations: Iterable[tuple[Any, Callable[[], list[Pair]]]]
) -> CaseOutcome:
    """Do operations one after the other, and compare.

    Args:
        file, name: Of the outcome.
        operations: Of each what it is called in a message, and a function that does it and returns what to
            compare. An error of the class under test is a finding about that scenario.
    """
    checks = agreed = 0
    failure = ""
    for number, (label, operation) in enumerate(operations):
        try:
            pairs = operation()
        except (SimserveError, KeyError, IndexError, AssertionError) as error:
            pairs = [("outcome", "no error", f"{type(error).__name__}: {error}")]
        for what, expected, got in pairs:
            checks += 1
            agreed += expected == got
            if expected != got and not failure:
                failure = f"{name}: op {number} {label}: {what}: expected {expected}, got {got}"
    return CaseOutcome(file, name, checks, agreed, (failure,) if failure else ())


def compare_case(check: Checker, name: str, pairs: Iterator[Pair]) -> CaseOutcome:
    """Compare the pairs of a case; an error of the rules under test is a difference.

    Raises:
        InputError: If the log does not have its form.
    """
    checks = agreed = 0
    failure = ""
    try:
        for what, expected, got in pairs:
            checks += 1
            agreed += expected == got
            if expected != got and not failure:
                failure = f"{name}: {what}: expected {expected}, got {got}"
    except Exception as error:
        if isinstance(error, InputError) and error.file:
            raise
        checks += 1
        failure = failure or f"{name}: {type(error).__name__}: {error}"
    return CaseOutcome(check.file, name, checks, agreed, (failure,) if failure else ())

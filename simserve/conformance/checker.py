"""Takes values out of parsed JSON; anything else than expected is an `InputError` with the file and key."""

from __future__ import annotations

from typing import Any, NoReturn

from simserve.errors import InputError


def is_whole(value: object) -> bool:
    """Whether a JSON value is a whole number (true and false are not)."""
    return isinstance(value, int) and not isinstance(value, bool)


class Checker:
    """Takes values out of the parsed JSON of one file.

    `where` is the place of `owner` in the file (`requests[3]`; empty for the top level) and leads every
    message.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def fail(self, where: str, message: str) -> NoReturn:
        """Raise an `InputError` about the key `where`."""
        raise InputError(f"malformed golden log: {where}: {message}", file=self.file)

    def value(self, owner: dict[str, Any], key: str, where: str) -> Any:
        """Return `owner[key]`, which must be there."""
        if key not in owner:
            self.fail(f"{where}.{key}" if where else key, "missing")
        return owner[key]

    def whole(self, owner: dict[str, Any], key: str, where: str, minimum: int | None) -> int:
        """Return a whole number of at least `minimum` (None: any)."""
        value = self.value(owner, key, where)
        place = f"{where}.{key}" if where else key
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(place, f"expected a whole number, got {value!r}")
        if minimum is not None and value < minimum:
            self.fail(place, f"expected at least {minimum}, got {value}")
        return value

    def array(self, owner: dict[str, Any], key: str, where: str) -> list[Any]:
        """Return a list."""
        value = self.value(owner, key, where)
        if not isinstance(value, list):
            self.fail(f"{where}.{key}" if where else key, f"expected a list, got {type(value).__name__}")
        return value

    def mapping(self, owner: dict[str, Any], key: str, where: str) -> dict[str, Any]:
        """Return an object."""
        return self.record(self.value(owner, key, where), f"{where}.{key}" if where else key)

    def record(self, value: Any, where: str) -> dict[str, Any]:
        """Return `value`, which must be an object."""
        if not isinstance(value, dict):
            self.fail(where, f"expected an object, got {type(value).__name__}")
        return value

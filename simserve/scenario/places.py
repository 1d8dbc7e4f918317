"""Where in a file (or on the command line) each key and value of a scenario stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

KeyPath = tuple[str | int, ...]


def dotted(path: KeyPath) -> str:
    """Return a path as `--set` takes it: `pools.0.replicas`."""
    return ".".join(str(part) for part in path)


class Place(NamedTuple):
    """A place that an error message can name; line and column count from 1."""

    file: str
    line: int | None = None
    column: int | None = None


@dataclass(slots=True)
class Places:
    """Places by path, such as `("pools", 0, "replicas")`.

    Attributes:
        root: Place of the whole document, used where nothing nearer is known.
        keys: Place of the key of a path (entries of lists have none).
        values: Place of the value of a path.
    """

    root: Place
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    values: dict[KeyPath, Place] = field(default_factory=dict)

    def of_value(self, path: KeyPath) -> Place:
        """Return the place of a value, or of the nearest section around it."""
        return self._nearest(self.values, path)

    def of_key(self, path: KeyPath) -> Place:
        """Return the place of a key, or of the nearest section around it."""
        return self.keys.get(path) or self.of_value(path)

    def wrap_in_list(self, path: KeyPath) -> None:
        """Follow a value that became the only entry of a list: `path` is now `path + (0,)`."""
        for places in (self.keys, self.values):
            inside = [key for key in places if len(key) > len(path) and key[: len(path)] == path]
            moved = {(*path, 0, *key[len(path) :]): places.pop(key) for key in inside}
            places.update(moved)

    def override(self, path: KeyPath, place: Place) -> None:
        """Say that the value at `path`, and all inside it, now comes from `place`."""
        for places in (self.keys, self.values):
            for key in [key for key in places if key[: len(path)] == path]:
                del places[key]
            places[path] = place

    def _nearest(self, places: dict[KeyPath, Place], path: KeyPath) -> Place:
        for length in range(len(path), -1, -1):
            place = places.get(path[:length])
            if place is not None:
                return place
        return self.root

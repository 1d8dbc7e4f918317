"""YAML is read as data, with places, and what could run code or multiply itself is refused."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simserve.errors import ScenarioError
from simserve.scenario.places import Place
from simserve.scenario.yaml_text import read_scalar, read_yaml


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: &x 1\nb: 2\n", (1, 4), "anchor &x"),
        ("a: 1\nb: *x\n", (2, 4), "alias *x"),
        ("a: !!python/object/apply:os.system [ls]\n", (1, 4), "tag !!python/object/apply:os.system"),
        ("a: !!str 3\n", (1, 4), "tag !!str"),
        ("a: !include x.yaml\n", (1, 4), "tag !include"),
        ("a: 1\nb:\n  c: 1\n  c: 2\n", (4, 3), "key 'c' stands twice; the first is in line 3"),
        ("a: 1\n---\nb: 2\n", (2, 1), "second YAML document"),
        ("[1, 2]: 3\n", (1, 1), "list or mapping as a key"),
        ("a: [1, 2\nb: 3\n", (2, 2), "not valid YAML"),
        ("a: 1\n\tb: 2\n", (2, 1), "not valid YAML"),
        ("a: " + "[" * 70 + "]" * 70, (1, 67), "nested more than 64"),
    ],
)
def test_refusals_name_line_and_column(text: str, place: tuple[int, int], words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read_yaml(text, "s.yaml")
    assert words in caught.value.message
    assert (caught.value.file, caught.value.line, caught.value.column) == ("s.yaml", *place)


def test_merge_bomb_is_refused_at_its_first_anchor() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{f'*{chr(97 + i)}, ' * 9}]\n" for i in range(20)
    )
    with pytest.raises(ScenarioError, match=r"s\.yaml:1:4: anchor &a"):
        read_yaml(bomb, "s.yaml")


def test_control_characters_are_no_yaml() -> None:
    with pytest.raises(ScenarioError, match="not valid YAML"):
        read_yaml("a: \x00", "s.yaml")


def test_places_of_keys_and_values() -> None:
    value, places = read_yaml("a:\n  - b: 1\n  - {c: x}\n", "s.yaml")
    assert value == {"a": [{"b": 1}, {"c": "x"}]}
    assert places.of_key(("a", 0, "b")) == Place("s.yaml", 2, 5)
    assert places.of_value(("a", 0, "b")) == Place("s.yaml", 2, 8)
    assert places.of_value(("a", 1, "c")) == Place("s.yaml", 3, 9)
    assert places.of_value(("a", 1, "absent", "deeper")) == places.of_value(("a", 1))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("50_000", 50000),
        ("off", "off"),
        ("1:30", "1:30"),
        ("2023-11-16", "2023-11-16"),
        ("0x10", 16),
        ("007", 7),
        ("+.5", 0.5),
        ("", None),
        ("~", None),
        ("True", True),
        ("-.inf", -math.inf),
        ("1.2.3", "1.2.3"),
        ("9" * 400, math.inf),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    read = read_scalar(text)
    assert read == value
    assert type(read) is type(value)


# Raw control characters are no YAML, and its line breaks (U+2028, U+2029) fold.
_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"]))
_NUMBERS = st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(_VALUES)
def test_json_reads_as_itself(value: object) -> None:
    assert read_yaml(json.dumps(value, ensure_ascii=False), "x")[0] == value


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        value, _ = read_yaml(text, "x")
    except ScenarioError:
        return
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value)

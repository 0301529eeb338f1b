from dataclasses import dataclass
from typing import Any

import pytest

from edgecell.typed import build, loads


@dataclass(frozen=True)
class Point:
    x: int
    y: int = 0


@dataclass(frozen=True)
class Everything:
    name: str
    share: float
    pair: tuple[float, float]
    points: tuple[Point, ...] = ()
    best: Point | None = None
    rest: dict[str, Any] | None = None
    on: bool = False


WHOLE = {"name": "a", "share": 1, "pair": [1.5, 2]}


def test_what_is_right_is_built() -> None:
    value = WHOLE | {"points": [{"x": 1}], "best": {"x": 1, "y": 2}, "on": True}
    assert build(Everything, value) == Everything(
        "a", 1.0, (1.5, 2.0), (Point(1),), Point(1, 2), None, True
    )
    assert type(build(Everything, WHOLE).share) is float


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "name must be of type str"),
        ({"share": "1"}, "share must be of type float"),
        ({"on": 1}, "on must be of type bool"),
        ({"pair": [1]}, "pair must have 2 values, not 1"),
        ({"pair": 1}, "pair must be a list"),
        ({"points": [{"x": True}]}, r"points\[0\]\.x must be of type int"),
        ({"best": {"y": 1}}, r"best\.x is missing"),
        ({"best": []}, "best must be an object"),
        ({"rest": []}, "rest must be of type dict"),
        ({"more": 1, "most": 2}, r"unknown keys \['more', 'most'\]"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(Everything, WHOLE | change)


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "[-Infinity]",
        '{"a": 1e999}',
        "9" * 19,
        "9" * 5000,
        r'"\u001b[31m"',
        r'{"a\nb": 1}',
        "[" * 10**5,
        "",
    ],
)
def test_what_only_python_takes_is_no_json(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        loads(text)


def test_plain_json_is_read() -> None:
    assert loads('{"a": [1, 2.5, null, "\\u00e9"]}') == {"a": [1, 2.5, None, "é"]}

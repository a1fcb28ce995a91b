"""Points of a search: shared, evenly spread, inside their ranges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravine.lab.study.arms import parse
from ravine.lab.study.points import grid, quasi_random, settings_at
from ravine.lab.study.space import COORDINATES, Choice, Range


@given(st.integers(1, 5))
def test_the_first_points_fill_every_coordinate_evenly(k: int) -> None:
    points = quasi_random(2**k)
    for name in COORDINATES:
        assert sorted(math.floor(point[name] * 2**k) for point in points) == list(range(2**k))


@given(st.integers(1, 40))
def test_more_points_begin_with_the_fewer(count: int) -> None:
    """Only within a power of two, to which the sequence is scrambled as a whole."""
    assert quasi_random(count) == quasi_random(1 << (count - 1).bit_length())[:count]


@given(st.floats(1e-8, 1e3), st.floats(1.01, 1e6), st.floats(0, 1), st.booleans())
def test_a_range_stays_within_its_ends(low: float, factor: float, part: float, log: bool) -> None:
    place = Range(low, low * factor, log)
    assert place.low <= place.at(part) <= place.high
    assert place.grid(3)[0] == pytest.approx(place.low, rel=5e-3) and place.grid(3)[2] == pytest.approx(
        place.high, rel=5e-3
    )


@given(st.lists(st.integers(), min_size=2, max_size=6, unique=True), st.floats(0, 1))
def test_a_choice_gives_each_value_its_share(values: list[int], part: float) -> None:
    place = Choice(tuple(values))
    assert place.at(part) == values[min(int(part * len(values)), len(values) - 1)]
    assert place.grid(9) == values


def test_arms_share_their_points() -> None:
    one, other = parse(["adamw", "lion"], over=("lr", "weight_decay", "beta2"))
    for point in quasi_random(8):
        a, b = settings_at(one, point), settings_at(other, point)
        assert set(a) == {"lr", "weight_decay", "beta2"} and set(b) == {"lr", "weight_decay"}
        assert a["weight_decay"] == b["weight_decay"]
        for arm, settings in ((one, a), (other, b)):
            place = arm.space["lr"]
            assert isinstance(place, Range)
            part = math.log(float(settings["lr"]) / place.low) / math.log(place.high / place.low)
            assert part == pytest.approx(point["lr"], abs=2e-3)


def test_a_setting_without_a_coordinate_is_spread_too() -> None:
    (arm,) = parse(["adamw"], over=("lr", "eps"), spaces={"": {"eps": "1e-10..1e-4"}})
    values = [settings_at(arm, point)["eps"] for point in quasi_random(16)]
    assert len(set(values)) == 16 and min(values) < 1e-8 < 1e-6 < max(values)


def test_a_grid_has_all_its_cells() -> None:
    (arm,) = parse(["adamw"], over=("lr", "weight_decay", "beta2"))
    cells = grid(arm, 18)
    assert len(cells) == 18 == len({tuple(cell.values()) for cell in cells})
    assert {cell["beta2"] for cell in cells} == {0.95, 0.999}
    with pytest.raises(ValueError, match="no grid over lr, weight_decay, beta2 of adamw has 20 cells; give trials=18"):
        grid(arm, 20)

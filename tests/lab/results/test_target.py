"""Steps, data and seconds to a loss."""

from __future__ import annotations

from typing import Any

import pytest
from tests.lab.results.made import outcome

from ravine.lab.results.target import first_crossing, median_of_all, to_target


def run(loss: float | str | None, steps: int = 40) -> dict[str, Any]:
    """From 5 down to its final loss in a straight line, evaluated at each quarter."""
    return {"seed": 1, "steps": steps, **outcome(loss, steps)}


def test_the_first_crossing_is_an_evaluation() -> None:
    # To 1: 4, 3, 2, 1 at steps 10, 20, 30, 40, ten units and a tenth of a second each.
    found = to_target([run(1.0)], [], 2.5)
    assert found == {
        "steps_to_target": 30,
        "tokens_to_target": 300,
        "seconds_to_target": 3.0,
        "reached_target": 1,
        "to_target_kind": "first crossing",
    }


def test_it_is_the_median_of_all_seeds_and_those_that_did_not_get_there_come_last() -> None:
    assert to_target([run(1.0), run(1.0), run(3.0)], [], 2.5)["steps_to_target"] == 30
    found = to_target([run(1.0), run(3.0), run(None), run("out of memory")], [], 2.5)
    assert (found["steps_to_target"], found["seconds_to_target"], found["reached_target"]) == (None, None, 1)


def test_without_a_target_nothing_reaches_it() -> None:
    for horizons in ([], [run(1.0, 20)]):
        found = to_target([run(1.0)], horizons, None)
        assert (found["steps_to_target"], found["reached_target"]) == (None, 0)


def test_the_shortest_whole_run_that_ends_there() -> None:
    """The curve of the long one crosses at step 30; a run of 20 steps, annealed, ends there."""
    horizons = [run(3.0, 10), run(3.0, 10), run(2.4, 20), run(2.5, 20)]
    found = to_target([run(1.0), run(1.1), run(2.6)], horizons, 2.5)
    assert (found["steps_to_target"], found["tokens_to_target"], found["seconds_to_target"]) == (20, 200, 2.0)
    assert (found["reached_target"], found["to_target_kind"]) == (2, "annealed horizon")


def test_the_mean_of_a_length_counts_and_no_run_of_it_may_be_lost() -> None:
    assert to_target([run(1.0)], [run(2.0, 20), run(2.9, 20)], 2.5)["steps_to_target"] == 20
    assert to_target([run(1.0)], [run(2.0, 20), run(3.1, 20)], 2.5)["steps_to_target"] == 40
    assert to_target([run(1.0)], [run(2.0, 20), run(None, 20)], 2.5)["steps_to_target"] == 40
    assert to_target([run(3.0)], [run(4.0, 20)], 2.5)["steps_to_target"] is None


def test_a_target_that_is_just_reached_is_reached() -> None:
    assert first_crossing({"loss": [3.0, 2.0]}, 2.0) == 1
    assert first_crossing({"loss": [3.0, 2.0]}, 1.99) is None
    assert to_target([run(2.0)], [run(2.0, 20)], 2.0)["steps_to_target"] == 20


@pytest.mark.parametrize(
    ("reached", "median"),
    [([10], 10), ([10, 20], 20), ([10, None], None), ([10, 20, 30], 20), ([None, 10, 20], 20), ([None], None)],
)
def test_of_an_even_number_the_later_middle_counts(reached: list[float | None], median: float | None) -> None:
    assert median_of_all(reached) == median

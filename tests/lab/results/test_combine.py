"""Several studies in one result."""

from __future__ import annotations

from typing import Any

import pytest
from tests.lab.results.made import usual

from ravine.lab.files import to_json
from ravine.lab.results import combined, summarize


def result(worse_by: float = 0.5, **others: Any) -> dict[str, Any]:
    return summarize(usual(worse_by, **others))


def test_arms_are_labelled_by_study_and_judged_together() -> None:
    both = combined([result(0.5), result(0.2)])
    to_json(both)
    assert list(both["arms"]) == ["adamw (A)", "muon (A)", "adamw (B)", "muon (B)"]
    assert both["studies"] == ["A", "B"]
    assert both["baseline"] == "adamw (A)"
    assert len(both["pairs"]) == 6
    assert both["verdict"]["winner"] == "muon (A)"
    assert set(both["verdict"]["tuning_probability"]) == set(both["arms"])
    assert both["budget"] == result()["budget"]
    assert not any("The studies differ" in note for note in both["notes"])


def test_it_has_the_keys_of_a_result() -> None:
    one = result()
    both = combined([one, one], ["first", "second"])
    assert set(both) == {*one, "studies"}
    assert set(both["arms"]["muon (second)"]) == set(one["arms"]["muon"])
    assert both["arms"]["muon (second)"]["final_loss"] == one["arms"]["muon"]["final_loss"]


def test_the_results_are_left_as_they_were() -> None:
    first, second = result(), result(target=2.5)
    before = to_json([first, second])
    combined([first, second])
    assert to_json([first, second]) == before


def test_one_target_for_all() -> None:
    both = combined([result(target=2.5), result()])
    assert both["target"] == {"loss": 2.5, "source": "given"}
    assert {arm["steps_to_target"] for arm in both["arms"].values()} == {30, 40}
    other = combined([result(), result(target=2.5)])
    assert other["target"]["source"] == "mean + 1 standard deviation of adamw (A)"
    assert other["arms"]["muon (B)"]["steps_to_target"] == 40


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"budget": {"steps": 80}}, "steps (40 in A, 80 in B)"),
        ({"budget": {"trials": 5}}, "trials (3 in A, 5 in B)"),
        ({"budget": {"over": ["lr", "beta2"]}}, "over (lr in A, lr+beta2 in B)"),
        ({"budget": {"pruner": "median"}}, "pruner (none in A, median in B)"),
        ({"machine": {"precision": "bfloat16", "workers": 1}}, "precision (float32 in A, bfloat16 in B)"),
    ],
)
def test_there_is_no_verdict_where_budgets_differ(changed: dict[str, Any], shown: str) -> None:
    both = combined([result(), result(**changed)])
    assert both["verdict"] == {
        "winner": None,
        "significant": False,
        "text": f"No verdict: the studies differ in {shown}.",
        "tuning_probability": None,
    }
    assert f"The studies differ in {shown}." in both["notes"]
    for key, value in changed.get("budget", {}).items():
        assert both["budget"][key] == [result()["budget"].get(key), value]


def test_more_seeds_in_one_are_no_obstacle() -> None:
    both = combined([result(), result(budget={"seeds": 7})])
    assert both["verdict"]["winner"] is None and "lowest mean" in both["verdict"]["text"]
    assert both["budget"]["seeds"] == [5, 7]


def test_costs_go_with_their_arms() -> None:
    cost = {"muon": {"milliseconds": {"step": 1.0}}}
    assert combined([result(), result(cost=cost)])["cost"] == {"muon (B)": cost["muon"]}
    assert combined([result(), result()])["cost"] is None


def test_warnings_say_whose_they_are() -> None:
    few = result(budget={"seeds": 4})
    assert "B: 4 seeds per arm; 5 are the least for a claim." in combined([result(), few])["warnings"]


def test_other_machines_and_versions_are_warned_of() -> None:
    other = result(machine={"device": "cuda", "name": "y", "precision": "float32"}, versions={"torch": "3"})
    warnings = combined([result(), other])["warnings"]
    assert "The studies were made with different versions of torch." in warnings
    assert any("times cannot be compared" in text for text in warnings)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"task_name": "lm"}, r"different tasks cannot be compared: quadratic \(A\) and lm \(B\)"),
        ({"unit": "byte"}, r"different units of data cannot be compared: step \(A\) and byte \(B\)"),
        ({"loss_name": "nats"}, r"different losses cannot be compared: loss \(A\) and nats \(B\)"),
        ({"hashes": {"data": "x", "study": "s"}}, "the studies A and B cannot be compared: their data or their models"),
    ],
)
def test_what_does_not_measure_the_same_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        combined([result(), result(**changed)])


def test_data_may_differ_on_purpose() -> None:
    other = result(0.2, hashes={"data": "x", "study": "s"})
    assert combined([result(), other], same_data=False)["verdict"]["winner"] == "muon (A)"


def test_names_must_fit() -> None:
    with pytest.raises(ValueError, match="two results at least, got 1"):
        combined([result()])
    with pytest.raises(ValueError, match="one for each of the 2 studies, got a, a"):
        combined([result(), result()], ["a", "a"])
    with pytest.raises(ValueError, match="one for each of the 2 studies, got a"):
        combined([result(), result()], ["a"])

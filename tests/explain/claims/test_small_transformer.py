"""The small transformers that claims about optimizers for language models are tried on."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ravine.explain.claims import Run
from ravine.explain.claims.small_transformer import (
    ASCII,
    Count,
    Judged,
    Small,
    Text,
    Tuned,
    difference,
    edges,
    grid,
    interval,
    judge,
    judging_seeds,
    luck,
    tune,
)
from ravine.lab.study.arms import Arm
from ravine.lab.study.selection import Trial
from ravine.optim.hessian import INPUT

ADAMW = Arm("adamw", "adamw")
QUICK = Run(quick=True, seeds=(1, 2))


@pytest.fixture(scope="module")
def small() -> Small:
    """Sixteen steps on a text of one sentence."""
    return Small(Text.cut(b"A rule is written once, and everything else reads it. " * 40), steps=16, batch=4, width=16)


def judged(*losses: float, tuned: Tuned | None = None) -> Judged:
    return Judged(losses, np.zeros((len(losses), 1)), tuned)


def test_only_ascii_is_learned() -> None:
    text = Text.cut("naïve ravine".encode() * 20)
    assert max(int(part.max()) for part in vars(text).values()) < ASCII


def test_the_parts_of_a_text_share_nothing() -> None:
    data = bytes(range(100))
    text = Text.cut(data)
    assert torch.cat((text.training, text.tuning, text.judging)).tolist() == list(data)


def test_the_same_seed_gives_the_same_run(small: Small) -> None:
    first, again, other = (small.train(ADAMW, {"lr": 0.01}, seed) for seed in (1, 1, 2))
    assert first.loss == again.loss
    assert np.array_equal(first.losses, again.losses)
    assert first.loss != other.loss


def test_a_run_learns_and_leaves_the_global_generator_alone(small: Small) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    made = replace(small, steps=60).train(ADAMW, {"lr": 0.03}, 1, "judging")
    assert torch.equal(torch.get_rng_state(), before)
    assert made.loss < made.losses[0] - 1


def test_a_run_that_diverges_ends_at_infinity(small: Small) -> None:
    sgd = Arm("sgd", "sgd", {"momentum": 0.9})
    assert small.train(sgd, {"lr": 1e30}, 1).loss == math.inf


def test_an_epoch_sees_every_window_once(small: Small) -> None:
    by_epoch = replace(small, epochs=True, batch=1)
    drawn = by_epoch.batches(seed=1)
    for _ in range(2):
        seen = sorted(next(drawn)[0].tolist() for _ in range(len(by_epoch.windows)))
        assert seen == sorted(by_epoch.windows.tolist())


def test_windows_side_by_side_cover_the_text(small: Small) -> None:
    predicted = small.windows[:, 1:].flatten()
    assert torch.equal(predicted, small.text.training[1 : len(predicted) + 1])
    assert len(small.text.training) - 1 - len(predicted) < small.context


def test_a_run_begins_with_the_weights_it_is_given(small: Small) -> None:
    weights = small.new_model(5).state_dict()
    begun = replace(small, start=weights).new_model(6)
    assert all(torch.equal(weights[name], value) for name, value in begun.state_dict().items())


def test_a_rule_that_takes_the_hessian_gets_it_every_ten_steps(small: Small) -> None:
    given = []

    def look(step: int, model: object, optimizer: torch.optim.Optimizer) -> None:
        given.append(bool(optimizer.inputs.get(INPUT)))  # type: ignore[attr-defined]

    small.train(Arm("sophia", "sophia"), {"lr": 1e-3}, 1, before_step=look)
    assert [step for step, there in enumerate(given) if there] == [0, 10]


def test_tuning_and_judging_have_seeds_of_their_own(small: Small) -> None:
    told: list[tuple[int, int]] = []
    run = Run(quick=True, seeds=(1, 2), report=lambda done, total: told.append((done, total)))
    count = Count(run, 6)
    tuned = tune(small, ADAMW, grid(lr=(1e-5, 1e-2)), count)
    found = judge(small, ADAMW, tuned.best, run, count, tuned)
    assert tuned.best == {"lr": 1e-2}
    assert len(found.losses) == len(judging_seeds(run)) == 4
    assert not {trial.seed for trial in tuned.trials} & set(judging_seeds(run))
    assert told == [(done, 6) for done in range(1, 7)]
    assert found.curves.shape == (4, small.steps)


def test_quick_and_full_runs_judge_on_the_seeds_asked_for() -> None:
    assert judging_seeds(Run(quick=True, seeds=(1, 2, 3))) == (1, 2, 3, 4, 5, 6)
    assert judging_seeds(Run(seeds=(1, 2, 3))) == (1, 2, 3)


def test_a_setting_that_diverges_is_not_chosen() -> None:
    tuned = Tuned(ADAMW, (Trial({"lr": 1.0}, None, 1), Trial({"lr": 0.1}, 3.0, 1), Trial({"lr": 0.3}, 2.0, 1)))
    assert tuned.best == {"lr": 0.3}
    assert tuned.along() == ([0.1, 0.3], [3.0, 2.0])
    assert edges(tuned) == []
    (sentence,) = edges(Tuned(ADAMW, tuned.trials[:2]))
    assert sentence.startswith("adamw's best learning rate, 0.1,")


def test_a_search_is_drawn_at_the_best_of_its_other_settings() -> None:
    trials = [Trial(cell, loss) for cell, loss in zip(grid(lr=(1, 2), beta2=(3, 4)), (9.0, 8.0, 6.0, 7.0), strict=True)]
    assert Tuned(ADAMW, tuple(trials)).along() == ([1, 2], [8.0, 6.0])


def test_differences_are_taken_seed_by_seed() -> None:
    found = difference(judged(1.1, 2.1, 3.2), judged(1.0, 2.0, 3.0))
    assert found.mean == pytest.approx(0.4 / 3)
    # Student's t with two degrees of freedom: 4.3027 standard errors of the mean of 0.1, 0.1 and 0.2.
    assert found.high - found.mean == pytest.approx(4.302653 * np.std([0.1, 0.1, 0.2], ddof=1) / math.sqrt(3), rel=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_a_run_that_diverged_leaves_no_interval() -> None:
    found = difference(judged(1.0, math.inf, 1.0), judged(1.0, 1.1, 1.2))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(difference(judged(1.0), judged(1.1)).high)


def test_an_interval_is_widened_by_what_its_values_do_not_tell() -> None:
    plain, wider = interval([1.0, 2.0, 3.0]), interval([1.0, 2.0, 3.0], further_variance=1.0)
    assert wider.high - wider.low == pytest.approx(2 * (plain.high - plain.low))  # 1/3 becomes 1/3 + 1


def test_the_luck_of_tuning_is_that_of_settings_as_good_as_each_other() -> None:
    gaps = [0.0, 0.1, 0.2]

    def searched(*losses: float) -> Judged:
        trials = tuple(Trial({"lr": 0.1 * i}, loss) for i, loss in enumerate(losses, start=1))
        return judged(1.0, 1.0, 1.0, tuned=Tuned(ADAMW, trials))

    assert luck(gaps, judged(1.0, 1.0, 1.0)) == 0
    assert luck(gaps, searched(1.0, 5.0, 5.0)) == 0
    assert luck(gaps, searched(1.0, 1.05, 5.0)) > 0
    assert luck([0.1, 0.1, 0.1], searched(1.0, 1.05, 5.0)) < 1e-12

"""The whole experiment, tiny: what is made, and what is refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from tests.lab.pretrain_finetune.conftest import ARMS, BUDGET, Finished, call, untimed

import ravine.lab.finish
import ravine.lab.study.study
from ravine.lab.pretrain_finetune import prepare
from ravine.lab.pretrain_finetune.contrast import MISMATCH, contrast
from ravine.lab.tasks import make
from ravine.lab.tasks.sft import SupervisedFineTuning


def test_every_stage_is_there_and_the_cells_are_those_of_the_comparisons(finished: Finished) -> None:
    out, result, _ = finished
    assert result == json.loads((out / "pretrain-finetune.json").read_text(encoding="utf-8"))
    assert [(base["pretrained"], base["number"]) for base in result["bases"]] == [
        (arm, number) for number in (1, 2) for arm in ARMS
    ]
    assert len({base["seed"] for base in result["bases"]}) == 4
    assert [(cell["pretrained"], cell["post_trained"]) for cell in result["cells"]] == [
        (before, after) for before in ARMS for after in ARMS
    ]
    for cell in result["cells"]:
        bases = [base for base in result["bases"] if base["pretrained"] == cell["pretrained"]]
        stages = [
            json.loads((out / base["post_training"]["report"]).with_name("result.json").read_text()) for base in bases
        ]
        values = [stage["arms"][cell["post_trained"]]["final_loss"]["values"] for stage in stages]
        assert cell["values"] == values and cell["n"] == 4
        assert cell["mean"] == pytest.approx(np.mean(values))
        assert cell["interval"][0] < cell["mean"] < cell["interval"][1]
    losses = np.array([cell["values"] for cell in result["cells"]]).reshape(2, 2, 2, 2)
    mixed, kept = losses[0, 1].mean() + losses[1, 0].mean(), losses[0, 0].mean() + losses[1, 1].mean()
    assert result["effects"]["mismatch"]["estimate"] == pytest.approx(mixed - kept)
    assert result["effects"]["mismatch"]["p"] == pytest.approx(contrast(losses, MISMATCH).p)
    assert result["verdict"]["text"].startswith("The mismatch penalty ")


def test_every_base_begins_its_own_post_training(finished: Finished) -> None:
    out, result, _ = finished
    stages = [out / base["post_training"]["report"] for base in result["bases"]]
    assert len({json.loads(s.with_name("result.json").read_text())["hashes"]["data"] for s in stages}) == 4
    assert all((out / base["checkpoint"]).exists() and base["loss"] > 0 for base in result["bases"])


def test_cost_counts_every_run(finished: Finished) -> None:
    rows = {(row["stage"], row["optimizer"]): row for row in finished.result["cost"]}
    assert [row["runs"] for row in rows.values()] == [2, 2, 2, 2, 8, 8]
    assert sum(row["runs"] for row in rows.values()) == finished.seen[-1][1] == 24
    for (_, optimizer), row in rows.items():
        assert row["seconds"] > 0 and 0 < row["optimizer_share"] < 1
        assert (row["state_bytes_per_param"] == pytest.approx(8.0, abs=0.01)) == optimizer.startswith("adamw")


def test_progress_counts_up_over_all_stages(finished: Finished) -> None:
    done = [entry[0] for entry in finished.seen]
    assert done == sorted(done) and done[0] == 0 and done[-1] == 24
    shown = {what for _, _, running in finished.seen for what in running}
    assert f"pre-training: judge {ARMS[0]}" in shown
    assert f"pre-train {ARMS[1]} base 2" in shown
    assert f"post-training on {ARMS[1]} base 2: judge {ARMS[0]}" in shown


def test_pre_training_reads_what_post_training_trains_on_and_no_more(finished: Finished) -> None:
    task = make("sft", size="tiny", base=finished.out / finished.result["bases"][0]["checkpoint"])
    assert isinstance(task, SupervisedFineTuning)
    assert (finished.out / "text.py").read_bytes() == task.pairs.text


def test_the_command_of_the_result_finds_it_finished(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ravine.lab.study.study, "train", lambda *a, **o: pytest.fail("a run was made again"))
    words = shlex.split(finished.result["command"])
    assert words[:3] == ["ravine", "study", "pretrain-finetune"]
    done = call(*words[3:], "--quiet")
    assert done.exit_code == 0 and done.stderr == ""
    assert finished.result["verdict"]["text"] in " ".join(done.stdout.split())
    assert str(finished.out / "pretrain-finetune.html") in done.stdout
    alone = call(*words[3:], "--quiet", "--json", "-")
    assert untimed(json.loads(alone.stdout)) == untimed(finished.result)


def test_another_experiment_in_the_folder_is_refused(finished: Finished) -> None:
    before = {path: path.read_bytes() for path in finished.out.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"holds another experiment: bases was 2, is 3; .*steps was 2, is 5"):
        prepare(ARMS, out=finished.out, **{**BUDGET, "bases": 3, "post_steps": 5})
    assert {path: path.read_bytes() for path in finished.out.rglob("*") if path.is_file()} == before


def test_a_base_that_diverges_ends_it_in_one_sentence(tmp_path: Path) -> None:
    arguments = ["--size", "tiny", "--steps", "4", "--seeds", "2", "--bases", "2", "--workers", "1", "--quiet"]
    done = call(ARMS[0], "sgd:lr=1e12", *arguments, "--precision", "float32", "--device", "cpu", "--out", tmp_path)
    assert done.exit_code == 1
    (said,) = done.stderr.splitlines()
    assert said.startswith("ravine: pre-training base 1 of sgd:lr=1000000000000.0 diverged with the settings")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["adamw"], "has two optimizers, got adamw; try: adamw muon"),
        (["adamw", "muon", "lion"], "has two optimizers, got adamw, muon, lion"),
        (["adamw", "moun"], "did you mean 'muon'?"),
        (["--size", "smal"], "size must be one of tiny, small, base, got 'smal'; did you mean 'small'?"),
        (["--bases", "1"], "bases must be a whole number of at least 2, got 1"),
        (["--seeds", "1"], "seeds must be a whole number of at least 2, got 1"),
        (["--trials", "0"], "trials must be at least 1, got 0"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--post-steps", "0"], "post_steps must be a whole number of at least 1, got 0"),
        (["--post-steps", "few"], "a whole number is wanted, got 'few'"),
        (["--data", "missing"], "missing"),
        (["--data", "empty"], "at least 3 are needed"),
        (["--size", "tiny", "--out", "file"], "file is not a folder"),
        (["--json", "none/result.json"], "there is no folder none"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_leaves_nothing(
    arguments: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    refused = call(*arguments)
    assert refused.exit_code == 2, refused.output
    assert complaint in refused.stderr and refused.stdout == ""
    assert len(refused.stderr.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_with_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ravine.lab.comparison.cost_of", ravine.lab.finish.cost_of)
    result = prepare(("adamw", "muon"), out=tmp_path, **{**BUDGET, "trials": 2, "seeds": 4, "bases": 3}).run()
    assert result["optimizers"] == ["adamw", "muon"]
    assert [row["runs"] for row in result["cost"]] == [2 + 4 + 4] * 2 + [3] * 2 + [6 * (2 + 4 + 4)] * 2
    assert all("lr" in base["post_training"]["arms"]["muon"]["settings"] for base in result["bases"])
    for label in ("adamw", "muon"):
        tuned = result["pretraining"]["arms"][label]["settings"]["lr"]
        assert all(f"lr={tuned}" in base["optimizer"] for base in result["bases"] if base["pretrained"] == label)

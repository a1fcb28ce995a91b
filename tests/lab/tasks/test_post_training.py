"""Post-training: functions with their own docstrings, a loss on answers alone, preferences from the base on."""

from __future__ import annotations

import functools
import inspect
import math
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import ravine
from ravine.lab.data import SHARES
from ravine.lab.data.tokenizer import Bytes
from ravine.lab.tasks import Batch, Task, make
from ravine.lab.tasks import base as bases
from ravine.lab.tasks import pairs as pairs_of
from ravine.lab.tasks.dpo import others, shuffled
from ravine.lab.tasks.pairs import Pair, of_source
from ravine.lab.tasks.post_training import END, SEPARATOR, window
from ravine.lab.training import Recipe, fit, load_model

tiny: Callable[[str], Task] = functools.cache(lambda name: make(name, size="tiny"))

SOURCE = '''
import os

class Box:
    @property
    def width(self):
        """The distance from the left side
        to the right one.

        Further words.
        """
        # a comment
        return self.right - self.left

    def nothing(self):
        return None

async def wait(seconds: float = 1.0) -> None:
    "Do nothing for some time."
    def inner():
        \'\'\'Inside of another function.\'\'\'
        return "\\d"
    await inner()

def short(): "On the line of its definition."

def brief():
    """Brief."""
    return 0
'''


def test_pairs_are_functions_without_and_with_their_docstrings() -> None:
    found = {pair.answer: pair.prompt for pair in of_source(SOURCE)}
    assert found == {
        "The distance from the left side to the right one.": (
            "def width(self):\n    # a comment\n    return self.right - self.left"
        ),
        "Do nothing for some time.": (
            "async def wait(seconds: float = 1.0) -> None:\n    def inner():\n"
            "        '''Inside of another function.'''\n        return \"\\d\"\n    await inner()"
        ),
        "Inside of another function.": 'def inner():\n    return "\\d"',
    }


def test_a_true_docstring_stands_beside_its_function() -> None:
    """What Python itself says of the functions of a module is what the pairs say."""
    pairs = [pair for pair in of_source(inspect.getsource(textwrap)) if "(self" not in pair.prompt]
    found = {pair.prompt.partition("(")[0]: pair.answer for pair in pairs}
    documented = [f for _, f in inspect.getmembers(textwrap, inspect.isfunction) if f.__doc__]
    assert len(documented) >= 5
    for function in documented:
        paragraph = inspect.getdoc(function).split("\n\n")[0]
        assert found[f"def {function.__name__}"] == " ".join(paragraph.split())


def test_no_file_is_in_two_splits() -> None:
    found = pairs_of.standard_library(300)
    assert {split: len(pairs) >= 16 for split, pairs in found.splits.items()} == dict.fromkeys(SHARES, True)
    training = {pair.prompt for pair in found.splits["training"]}
    for split in ("tuning", "judging"):
        assert not training & {pair.prompt for pair in found.splits[split]}
        # The base is pre-trained on the training files: a method's source is in them, but for its indentation.
        longest = [max(pair.prompt.splitlines(), key=len) for pair in found.splits[split]]
        held = [line for line in longest if len(line) > 60]
        assert held and sum(line.strip().encode() in found.text for line in held) <= 0.05 * len(held)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve files of one's own, and what is no Python."""
    for module in range(12):
        functions = (
            f'def area_{module}_{n}(x):\n    """Area of kind {n} in module {module}."""\n    return x * {n + module}\n'
            for n in range(5)
        )
        (tmp_path / f"module{module}.py").write_text("\n\n".join(functions))
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    (tmp_path / "notes.txt").write_text("no source")
    return tmp_path


def test_a_folder_of_ones_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bases.STEPS, "tiny", 10)
    task = make("sft", size="tiny", data=folder)
    assert task.settings()["data"]["pairs"] == {"training": 45, "tuning": 10, "judging": 5}
    assert [s["path"] for s in task.about()["data"]["skipped"]] == ["broken.py", "latin.py"]
    modules = {split: {pair.answer.split()[-1] for pair in pairs} for split, pairs in task.pairs.splits.items()}
    assert sorted(m for found in modules.values() for m in found) == sorted(f"{m}." for m in range(12))
    before = task.settings()["data"]["sha256"]
    path = folder / "module3.py"
    path.write_text(path.read_text().replace("Area of", "Size of"))
    assert make("sft", size="tiny", data=folder).settings()["data"]["sha256"] != before


def test_folders_that_will_not_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        make("sft", data=tmp_path / "missing")
    with pytest.raises(ValueError, match="has 0 Python files with documented functions; at least 3 are needed"):
        make("sft", data=tmp_path)
    shutil.copy(textwrap.__file__, tmp_path)
    with pytest.raises(ValueError, match="has 1 Python file with documented functions"):
        make("dpo", data=tmp_path)


@pytest.mark.parametrize("length", [17, 64, 129, 600])
def test_the_mask_covers_the_answer_and_nothing_else(length: int) -> None:
    tokenizer = Bytes()
    pair = Pair("def double(x):\n    return 2 * x" + "\n    # more" * 20, "Twice a number, é and all.")
    tokens, answered = window(tokenizer, pair, length)
    assert tokens.shape == answered.shape == (length,)
    whole = tokenizer.encode(pair.answer + END)
    answer = whole[: length // 2]
    assert tokens[answered].tolist() == answer
    end = int(answered.nonzero().max()) + 1
    assert not tokens[end:].any() and not answered[end:].any()
    prompt = tokens[: end - len(answer)].tolist()
    assert bytes(prompt).endswith(SEPARATOR.encode())
    assert (pair.prompt + SEPARATOR).encode().startswith(bytes(prompt[: -len(SEPARATOR)]))
    assert end == min(length, len((pair.prompt + SEPARATOR).encode()) + len(answer))


def test_the_loss_of_sft_is_the_cross_entropy_of_the_answers() -> None:
    task = tiny("sft")
    model, batch = task.new_model(), task.draw(6, torch.Generator().manual_seed(0), 1)
    tokens, answer = batch["tokens"], batch["answer"]
    logits = model(tokens[:, :-1])
    terms = [
        F.cross_entropy(logits[i, place - 1], tokens[i, place]).item()
        for i in range(6)
        for place in range(1, tokens.shape[1])
        if answer[i, place]
    ]
    assert task.loss(model, batch).item() == pytest.approx(np.mean(terms), rel=1e-5)
    assert task.units(batch) == len(terms)
    # What stands after an answer is padding: it may be anything.
    changed = tokens.clone()
    after = (answer.long().flip(1).cumsum(1).flip(1) == 0) & ~answer
    changed[after] = 7
    assert after.any()
    assert torch.equal(task.loss(model, {**batch, "tokens": changed}), task.loss(model, batch))


def test_evaluating_sft_weighs_every_token_of_an_answer_alike() -> None:
    task = tiny("sft")
    model = task.new_model().eval()
    tokens, answer = task.windows["tuning"]
    with torch.inference_mode():
        found = task.evaluate(model, "tuning")
        assert len(tokens) <= 128
        assert found["loss"] == pytest.approx(task.loss(model, {"tokens": tokens, "answer": answer}).item(), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert 0 < found["accuracy"] < 1


def preferences(task: Task, count: int) -> Batch:
    return task.draw(count, torch.Generator().manual_seed(0), 1)


def test_the_loss_of_dpo_is_log_2_where_model_and_reference_agree() -> None:
    task = tiny("dpo")
    model = task.new_model()
    assert task.loss(model, preferences(task, 8)).item() == pytest.approx(math.log(2), abs=1e-6)
    with torch.inference_mode():
        found = task.evaluate(model.eval(), "judging")
    assert found == {"loss": pytest.approx(math.log(2), abs=1e-6), "accuracy": 0.5, "margin": 0.0}


@pytest.mark.parametrize("rejected", ["words", "functions"])
def test_the_loss_of_dpo_is_equation_7(rejected: str) -> None:
    """Rafailov et al. 2023, equation 7, written out with probabilities of whole answers."""
    task = make("dpo", size="tiny", beta=0.3, rejected=rejected)
    model, batch = task.new_model(), preferences(task, 5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))

    def answer_log_probability(of: torch.nn.Module, side: str, i: int) -> float:
        tokens, answer = batch[side][i], batch[f"{side}_answer"][i]
        found = of(tokens[None, :-1])[0].log_softmax(-1)
        return sum(found[place - 1, tokens[place]].item() for place in answer.nonzero().flatten().tolist())

    losses, right = [], []
    for i in range(5):
        ratio = {
            side: answer_log_probability(model, side, i) - answer_log_probability(task.start.model, side, i)
            for side in ("chosen", "rejected")
        }
        margin = 0.3 * (ratio["chosen"] - ratio["rejected"])
        losses.append(math.log1p(math.exp(-margin)))
        right.append(margin)
    assert max(map(abs, right)) > 0.01
    assert task.loss(model, batch).item() == pytest.approx(np.mean(losses), rel=1e-3)
    assert task.margin(model, batch).tolist() == pytest.approx(right, rel=1e-2, abs=1e-3)


def test_the_reference_stays_as_it_is() -> None:
    task = make("dpo", size="tiny")
    before, model = bases.digest(task.start.model), task.new_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    task.loss(model, preferences(task, 4)).backward()
    optimizer.step()
    assert bases.digest(task.start.model) == bases.digest(task.references[torch.device("cpu")]) == before
    assert bases.digest(model) != before
    assert bases.digest(task.new_model()) == before


def test_preferences_are_a_docstring_and_its_words_in_another_order() -> None:
    task = tiny("dpo")
    decode = task.start.tokenizer.decode
    kept = [tensor[:40] for tensor in task.preferences["training"]]
    for chosen, chosen_answer, rejected, rejected_answer in zip(*kept, strict=True):
        true, false = (decode(t[m].tolist()) for t, m in ((chosen, chosen_answer), (rejected, rejected_answer)))
        assert true != false and sorted(true.removesuffix(END).split()) == sorted(false.removesuffix(END).split())
        assert torch.equal(chosen[~chosen_answer], rejected[~rejected_answer])


def test_preferences_of_functions_give_the_docstring_of_another() -> None:
    pairs = tuple(Pair(f"def f{i}(): ...", "Same." if i < 3 else f"Answer {i}.") for i in range(8))
    wrong = others(pairs)
    assert [w.prompt for w in wrong] == [p.prompt for p in pairs]
    assert all(w.answer != p.answer for w, p in zip(wrong, pairs, strict=True))
    assert {w.answer for w in wrong} <= {p.answer for p in pairs}
    with pytest.raises(ValueError, match="at least two different docstrings"):
        others(pairs[:3])


def test_shuffled_words_read_differently() -> None:
    generator = np.random.default_rng(0)
    assert {shuffled(["a", "b"], generator) for _ in range(20)} == {"b a"}
    assert shuffled(["a", "a", "b"], generator) in ("a b a", "b a a")


def test_the_base_is_kept_and_made_anew_where_its_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(bases.STEPS, "tiny", 10)
    text = b"all work and no play " * 100
    first = bases.pre_trained("tiny", text)
    (file,) = (tmp_path / "ravine" / "bases").glob("*.pt")
    made = file.read_bytes()
    monkeypatch.setattr(bases, "_pre_train", lambda size, text: pytest.fail("it is there"))
    assert bases.pre_trained("tiny", text).sha256 == first.sha256
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(bases.STEPS, "tiny", 10)
    file.write_bytes(made[: len(made) // 2])
    assert bases.pre_trained("tiny", text).sha256 == first.sha256
    with pytest.raises(ValueError, match="needs at least 129 bytes of text, got 5"):
        bases.pre_trained("tiny", b"short")


def kept(task: Task, out: Path) -> Path:
    """The checkpoint of a short training."""
    fit(task, lambda model: ravine.AdamW(model.parameters()), Recipe(steps=2, batch=2), out, optimizer="adamw")
    return out / "checkpoint.pt"


def test_a_base_from_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    """What `ravine train --task lm` has kept is what post-training begins with; its context may be short."""
    lm = make("lm", size="tiny", data=textwrap.__file__)
    checkpoint = kept(lm, tmp_path / "lm")
    trained, _ = load_model(checkpoint)
    for name in ("sft", "dpo"):
        task = make(name, size="tiny", data=folder, base=checkpoint)
        assert task.length == 33
        assert task.settings()["base"]["sha256"] == bases.digest(trained)
        assert "checkpoint.pt" in task.about()["base"]
        task.loss(task.new_model(), task.draw(2, torch.Generator(), 1)).backward()
    again = make("sft", size="tiny", data=folder, base=kept(task, tmp_path / "dpo"))
    assert again.settings()["base"]["sha256"] != task.settings()["base"]["sha256"]


MODEL = """
from torch import nn

def build():
    return nn.Sequential(nn.Embedding(256, 8), nn.Linear(8, 256))
"""


def test_a_base_of_ones_own(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(MODEL)
    lm = make("lm", size="tiny", data=textwrap.__file__, model=f"{file}:build")
    given = {"data": folder, "base": kept(lm, tmp_path / "lm")}
    with pytest.raises(ValueError, match="say with model where it is"):
        make("sft", size="tiny", **given)
    task = make("sft", size="tiny", model=f"{file}:build", **given)
    assert task.length == 129 and task.settings()["base"]["source"]["name"] == "model.py:build"
    assert make(**task.spec()) == task
    task.loss(task.new_model(), task.draw(2, torch.Generator(), 1)).backward()


def test_bases_that_will_not_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*missing\.pt"):
        make("sft", size="tiny", data=folder, base=tmp_path / "missing.pt")
    (tmp_path / "text.pt").touch()
    with pytest.raises(ValueError, match="is not a checkpoint"):
        make("sft", size="tiny", data=folder, base=tmp_path / "text.pt")
    digits, short = make("digits", size="tiny"), make("lm", size="tiny", data=textwrap.__file__, context=8)
    for task, sentence in ((digits, "task digits, not of language"), (short, "a context of at least 15 tokens, got 8")):
        with pytest.raises(ValueError, match=sentence):
            make("sft", size="tiny", data=folder, base=kept(task, tmp_path / task.name))


def test_pre_training_helps() -> None:
    """The base has learned more than which bytes are frequent."""
    task = tiny("sft")
    with torch.inference_mode():
        assert task.evaluate(task.start.model, "judging")["loss"] < 3.5 < math.log(256)

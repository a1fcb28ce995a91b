"""Language modelling: the same numbers as the model's own loss, tokens that are no bytes, and models of one's own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from ravine.lab.models import SIZES, Transformer, parse
from ravine.lab.tasks import make


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of some 80 kB in which words return, and no block does."""
    path = tmp_path_factory.mktemp("words") / "text.txt"
    names = ("river", "valley", "stone", "the", "of", "over", "water", "slow", "gorge", "é")
    path.write_text("".join(f"{names[i % 7]} {names[i * i % 10]} {i}\n" for i in range(5000)), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "model.py"


MODEL = """
import torch
from torch import nn
from types import SimpleNamespace

class Model(nn.Module):
    def __init__(self, rows=256, columns=256):
        super().__init__()
        self.embedding, self.head = nn.Embedding(rows, 8), nn.Linear(8, columns)
    def forward(self, tokens):
        return self.head(self.embedding(tokens))

def build():
    return Model()
"""
LOGITS = "return self.head(self.embedding(tokens))"
BUILD = "return Model()"


def test_the_loss_is_that_of_the_transformer() -> None:
    task = make("lm", size="tiny")
    torch.manual_seed(0)
    model = task.new_model()
    batch = task.draw(4, torch.Generator().manual_seed(0), 1)
    assert isinstance(model, Transformer) and model.shape == SIZES["tiny"]
    assert torch.equal(task.loss(model, batch), model.loss(batch["tokens"]))
    with torch.inference_mode():
        found = task.evaluate(model, "judging")
        windows = task.corpus.windows("judging", 128, 33)
        assert found["loss"] == pytest.approx(model.loss(windows).item(), rel=1e-6)
        likeliest = model(windows[:, :-1]).argmax(-1)
    assert found["accuracy"] == pytest.approx((likeliest == windows[:, 1:]).float().mean().item(), abs=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert task.unit == "byte" and task.loss_name == "nats per byte" and "nats_per_byte" not in found
    assert task.units(batch) == 4 * 32


def test_tokens_that_are_no_bytes_are_also_counted_in_bytes(words: Path) -> None:
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    task = make("lm", size="tiny", data=words, tokenizer="bpe:300")
    vocabulary = task.corpus.vocabulary
    assert 256 < vocabulary <= 300 and task.architecture.vocabulary == vocabulary
    assert task.unit == "token" and task.loss_name == "nats per token"
    assert task.diverged_above == math.log(vocabulary) + 1
    with torch.inference_mode():
        found = task.evaluate(task.new_model(), "tuning")
    per_token = task.corpus.bytes_per_token("tuning")
    assert per_token > 1.2
    assert found["nats_per_byte"] == pytest.approx(found["loss"] / per_token)
    assert task.settings()["tokenizer"]["name"] == "bpe:300"
    assert make(**task.spec()).settings() == task.settings()


def test_settings_name_the_text_by_its_content(words: Path, tmp_path: Path) -> None:
    copied = tmp_path / "text.txt"
    copied.write_bytes(words.read_bytes())
    one, two = (make("lm", size="tiny", data=path) for path in (words, copied))
    assert one != two and one.settings() == two.settings()
    copied.write_bytes(words.read_bytes() + b"more of it\n")
    assert make("lm", size="tiny", data=copied).settings() != one.settings()


def test_text_too_short_for_a_window(tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("".join(f"{i:08d}\n" for i in range(40)))
    with pytest.raises(ValueError, match=r"is too short: its \w+ split has \d+ bytes, one window needs 129"):
        make("lm", data=path)


def test_a_model_of_ones_own(words: Path, file: Path) -> None:
    file.write_text(MODEL)
    before = torch.get_rng_state()
    task = make("lm", size="tiny", data=words, model=f"{file}:build")
    assert torch.equal(torch.get_rng_state(), before)
    assert task.settings()["model"]["name"] == "model.py:build" and task.settings()["context"] == 32
    assert task == make("lm", size="tiny", data=words, model=parse(f"{file}:build"))
    model = task.new_model()
    assert type(model).__name__ == "Model"
    task.loss(model, task.draw(2, torch.Generator(), 1)).backward()
    with torch.inference_mode():
        assert list(task.evaluate(model, "tuning")) == ["loss", "accuracy", "perplexity"]
    file.write_text(MODEL + "\n# changed\n")
    assert make(**task.spec()).settings() != task.settings()


def test_logits_may_be_an_attribute_of_what_the_model_returns(words: Path, file: Path) -> None:
    other = file.with_name("other.py")
    file.write_text(MODEL)
    other.write_text(MODEL.replace(LOGITS, LOGITS.replace("return ", "return SimpleNamespace(logits=") + ")"))
    plain, wrapped = (make("lm", size="tiny", data=words, model=f"{path}:build") for path in (file, other))
    batch = plain.draw(2, torch.Generator().manual_seed(0), 1)
    torch.manual_seed(0)
    one = plain.new_model()
    torch.manual_seed(0)
    two = wrapped.new_model()
    assert torch.equal(plain.loss(one, batch), wrapped.loss(two, batch))


def test_a_loss_of_ones_own(words: Path, file: Path) -> None:
    file.write_text(
        MODEL
        + "\ndef loss(model, batch):\n    return model(batch['tokens']).square().mean()\n"
        + "\ndef both():\n    return Model(), loss\n"
    )
    task = make("lm", size="tiny", data=words, model=f"{file}:both")
    model, batch = task.new_model(), task.draw(3, torch.Generator(), 1)
    assert task.loss(model, batch).item() == pytest.approx(model(batch["tokens"]).square().mean().item())
    assert task.loss_name == "loss" and task.diverged_above == math.inf
    with torch.inference_mode():
        assert list(task.evaluate(model, "tuning")) == ["loss"]


@pytest.mark.parametrize(
    ("line", "instead", "sentence"),
    [
        (BUILD, "return Model(rows=100)", "too small a vocabulary: it fails on token 255 of the tokenizer bytes"),
        (BUILD, "return Model(columns=100)", "model.py:build gives 100 logits, 256 are needed"),
        (LOGITS, "return None", "must return logits, .* got NoneType; for another loss let its function return"),
        (LOGITS, "return tokens", "must return logits, .* got a tensor of torch.int64"),
        (LOGITS, "return self.head(self.embedding(tokens).mean(1))", r"must return logits of shape \(1, 32, 256\)"),
        (LOGITS, "return self.hat(tokens)", "fails on tokens of shape .*AttributeError.*no attribute 'hat'"),
        (BUILD, "return Model(), lambda m, b: None", "model.py:build: loss must be a scalar tensor, got None"),
        (BUILD, "return Model(), lambda m, b: m(b['tokens'])", r"scalar tensor, got one of shape \(1, 33, 256\)"),
        (BUILD, "return Model(), lambda m, b: torch.ones(())", "must depend on the model's parameters"),
        (BUILD, "return Model(), lambda m, b: m(b['images']).sum()", "fails on tokens .*KeyError: 'images'"),
    ],
)
def test_models_that_will_not_do(words: Path, file: Path, line: str, instead: str, sentence: str) -> None:
    file.write_text(MODEL.replace(line, instead))
    with pytest.raises(ValueError, match=sentence) as refused:
        make("lm", size="tiny", data=words, model=f"{file}:build")
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def huggingface(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of a small GPT-2 that reads 24 tokens."""
    transformers = pytest.importorskip("transformers", reason="the package transformers is not installed")
    folder = tmp_path_factory.mktemp("hf") / "small"
    config = transformers.GPT2Config(
        vocab_size=256, n_positions=24, n_embd=16, n_layer=1, n_head=2, bos_token_id=None, eos_token_id=None
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_a_hugging_face_directory(words: Path, huggingface: Path) -> None:
    task = make("lm", size="tiny", data=words, model=f"hf:{huggingface}")
    assert task.window == 24 and task.settings()["context"] == 24
    model, batch = task.new_model().eval(), task.draw(2, torch.Generator(), 1)
    assert batch["tokens"].shape == (2, 25)
    logits = model(batch["tokens"][:, :-1])
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), batch["tokens"][:, 1:].flatten())
    assert task.loss(model, batch).item() == pytest.approx(expected.item(), rel=1e-6)
    assert make("lm", size="tiny", data=words, model=f"hf:{huggingface}", context=10).window == 10
    with pytest.raises(ValueError, match="context must be at most the model's, 24, got 25"):
        make("lm", size="tiny", data=words, model=f"hf:{huggingface}", context=25)
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    with pytest.raises(ValueError, match=r"small gives 256 logits, \d+ are needed"):
        make("lm", size="tiny", data=words, model=f"hf:{huggingface}", tokenizer="bpe:300")

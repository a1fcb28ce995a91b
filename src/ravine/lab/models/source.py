"""Where the user's own model comes from: a function in a Python file, or a local Hugging Face directory.

Naming a model (`parse`) runs nothing of it. Only `ModelSource.build` does, and only what had the same hash when it was
named: so a study file can say which model it was run with, and never makes a worker run another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ravine.lab.models import huggingface, python_file

Loss = Callable[[nn.Module, dict[str, Tensor]], Any]
"""From a model and a batch to a scalar tensor."""


@dataclass(frozen=True)
class Built:
    """A new model, and the loss that it is trained on, where its function gave one."""

    model: nn.Module
    loss: Loss | None = None


@dataclass(frozen=True)
class ModelSource:
    """A model of the user's own, as `parse` has found it.

    Attributes:
        kind: `"file"` or `"hf"`.
        path: of the file or directory, absolute.
        function: in the file; empty for a directory.
        sha256: of the file; or of a directory's config and weights.
    """

    kind: Literal["file", "hf"]
    path: Path
    function: str
    sha256: str

    @property
    def name(self) -> str:
        """`"model.py:build"`, or the directory's name: without the folders above, which differ between machines."""
        return f"{self.path.name}:{self.function}" if self.kind == "file" else self.path.name

    def settings(self) -> dict[str, str]:
        """What results depend on, as plain values."""
        return {"kind": self.kind, "name": self.name, "sha256": self.sha256}

    def build(self) -> Built:
        """A new model, in training mode. New weights are drawn from torch's global generator: the caller seeds it.

        This runs the file, once in a process (a second build calls the function again); it never runs code from a
        Hugging Face directory. What the file imports from beside it is found, but is not part of the hash.

        Raises:
            ValueError: if the file or directory has changed since `parse`, or gives no model that can be trained.
            ImportError: if transformers is needed and missing.
        """
        if self.kind == "hf":
            self._require_unchanged(huggingface.digest(self.path))
            return Built(_trainable(huggingface.load(self.path), self.name))
        text = python_file.read(self.path)
        self._require_unchanged(sha256(text).hexdigest())
        found = python_file.call(self.path, text, self.function)
        model, loss = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        if not isinstance(model, nn.Module) or (isinstance(found, tuple) and not callable(loss)):
            raise ValueError(
                f"{self.name} must return a torch.nn.Module, or (module, loss) with a function loss(model, batch), "
                f"got {_kind_of(found)}"
            )
        return Built(_trainable(model, self.name), loss)

    def _require_unchanged(self, now: str) -> None:
        if now != self.sha256:
            raise ValueError(f"{self.path} has changed: its sha256 is {now[:12]}…, expected {self.sha256[:12]}…")


def parse(text: str, expected_sha256: str | None = None) -> ModelSource:
    """The source that `"path.py:build"` or `"hf:DIR"` names. Reads it for its hash and runs nothing.

    Args:
        text: as on the command line. `build` is a function without required arguments that returns a
            module, or `(module, loss)` with `loss(model, batch)` a scalar tensor.
        expected_sha256: refuse anything else, such as a file that was changed since a study began.

    Raises:
        ValueError: if there is no such file or directory, or it is not the expected one.
    """
    kind, _, place = text.partition(":")
    if kind == "hf" and place:
        path = Path(place).expanduser().resolve()
        source = ModelSource("hf", path, "", huggingface.digest(path))
    else:
        place, _, function = text.rpartition(":")
        if not place or not function.isidentifier():
            raise ValueError(f'model must be "path.py:build" (a function in a file) or "hf:DIR", got {text!r}')
        path = Path(place).expanduser().resolve()
        source = ModelSource("file", path, function, sha256(python_file.read(path)).hexdigest())
    if expected_sha256 is not None and expected_sha256 != source.sha256:
        raise ValueError(
            f"{source.path} is not the model of this study: its sha256 is {source.sha256[:12]}…, "
            f"expected {expected_sha256[:12]}…"
        )
    return source


def check_loss(value: Any) -> Tensor:
    """The loss that the user's function returned, if it can be trained on.

    Raises:
        ValueError: for anything but a real floating-point tensor without dimensions; with gradients switched on, also
            for one that depends on no parameter.

    Example:
        >>> check_loss(torch.ones(3, requires_grad=True))
        Traceback (most recent call last):
        ValueError: loss must be a scalar tensor, got one of shape (3,); take its mean()
    """
    if value is None:
        raise ValueError("loss must be a scalar tensor, got None: does the function return it?")
    if not isinstance(value, Tensor):
        raise ValueError(f"loss must be a scalar tensor, got {_kind_of(value)}")
    if value.ndim:
        raise ValueError(f"loss must be a scalar tensor, got one of shape {tuple(value.shape)}; take its mean()")
    if not value.is_floating_point():
        raise ValueError(f"loss must be a floating-point tensor, got {value.dtype}")
    if torch.is_grad_enabled() and not value.requires_grad:
        raise ValueError("loss must depend on the model's parameters, got one without a gradient")
    return value


def _trainable(model: nn.Module, name: str) -> nn.Module:
    if any(torch.nn.parameter.is_lazy(p) for p in model.parameters()):
        raise ValueError(f"{name} returns a model with parameters that have no shape yet; call it once before")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"{name} returns a model without parameters to train")
    return model.train()


def _kind_of(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(_kind_of(part) for part in value)})"
    return "None" if value is None else type(value).__name__

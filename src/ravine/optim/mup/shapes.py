"""Which sides of which parameters grow with the width: a model compared with the same model at its base width."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

Kind = Literal["matrix", "vector", "fixed"]


@dataclass(frozen=True)
class Scaling:
    """How a parameter has grown from the base model to the model.

    Args:
        name: of the parameter.
        kind: `matrix` if both its sides grow, `vector` if one does (embeddings, readouts, biases, norms), else `fixed`.
        fan_in: how many times as wide as in the base its input side is.
        fan_out: the same of its output side.
        parameter: the model's.
        base: the base model's.
    """

    name: str
    kind: Kind
    fan_in: float
    fan_out: float
    parameter: nn.Parameter = field(repr=False)
    base: nn.Parameter = field(repr=False)

    @property
    def width(self) -> float:
        """How many times as wide as in the base a vector is."""
        return self.fan_in * self.fan_out


def compare(model: nn.Module, base: nn.Module) -> list[Scaling]:
    """How each parameter has grown from the base model to the model, in the model's order.

    A side is one that grows with the width where the two models differ in it, so both must be built alike but for the
    width. Sides are told apart by the module that a parameter belongs to: linear layers and convolutions have
    (out, in, ...), embeddings, transposed convolutions and the `Conv1D` of Hugging Face's GPT-2 (in, out, ...);
    parameters of other modules are read as (out, in).

    Args:
        model: the model to train.
        base: the same model at the width for which the settings were tuned; may be on the meta device.

    Raises:
        ValueError: if the two have other parameters, or shapes that do not come from one width.

    Warns:
        UserWarning: if all shapes are equal, so that nothing is scaled.

    Example:
        >>> [(s.name, s.kind, s.fan_in) for s in compare(nn.Linear(64, 64), nn.Linear(16, 16))]
        [('weight', 'matrix', 4.0), ('bias', 'vector', 1.0)]
    """
    wide, narrow = dict(model.named_parameters()), dict(base.named_parameters())
    if wide.keys() != narrow.keys():
        here, there = sorted(wide.keys() - narrow.keys()), sorted(narrow.keys() - wide.keys())
        raise ValueError(
            "model and base must have the same parameters; "
            + "; ".join(f"only {who} has {_some(names)}" for who, names in (("model", here), ("base", there)) if names)
        )
    owners = {id(p): (module, name) for module in model.modules() for name, p in module.named_parameters(recurse=False)}
    # An embedding that is tied to the readout belongs to both; the readout is found as a module, by `readouts`.
    owners |= {id(m.weight): (m, "weight") for m in model.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    found = [_scaling(name, p, narrow[name], *owners[id(p)]) for name, p in wide.items()]
    _refuse_inconsistent(found)
    if all(s.kind == "fixed" for s in found):
        warnings.warn("model has the base model's shapes: nothing is scaled", UserWarning, stacklevel=3)
    return found


def readouts(model: nn.Module, base: nn.Module) -> Iterator[tuple[str, nn.Module, float]]:
    """The layers that read a side that grows and whose output does not, by name, with how much wider their input is.

    The output head of a language model is one, tied to the embedding or not.
    """
    bases = dict(base.named_modules(remove_duplicate=False))
    for name, module in model.named_modules(remove_duplicate=False):
        sides = _sides(module)
        if sides is None or isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            continue
        wide, narrow = (m.weight.shape for m in (module, bases[name]))
        if wide[sides[0]] == narrow[sides[0]] and wide[sides[1]] != narrow[sides[1]]:
            yield name, module, wide[sides[1]] / narrow[sides[1]]


def _sides(module: nn.Module) -> tuple[int, int] | None:
    """The dimensions of a module's weight that are its output and its input."""
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return 1, 0
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return 0, 1
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or type(module).__name__ == "Conv1D":
        return 1, 0
    return None


def _scaling(name: str, p: nn.Parameter, base: nn.Parameter, module: nn.Module, own_name: str) -> Scaling:
    if p.ndim != base.ndim:
        raise ValueError(f"{name} has {p.ndim} dimensions in model and {base.ndim} in base; build both alike")
    ratios = [n / m for n, m in zip(p.shape, base.shape, strict=True)]
    grown = [i for i, ratio in enumerate(ratios) if ratio != 1]
    shapes = f"{name} is {tuple(p.shape)} in model and {tuple(base.shape)} in base"
    sides = _sides(module) if own_name == "weight" else None
    if not grown:
        return Scaling(name, "fixed", 1.0, 1.0, p, base)
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and 0 in grown:
        raise ValueError(f"{shapes}: the number of embeddings must not change with the width")
    if sides is not None and set(grown) - set(sides):
        raise ValueError(f"{shapes}: only its input and output sides may change with the width")
    if len(grown) == 1:
        (side,) = grown
        reads = sides is not None and side == sides[1]
        return Scaling(name, "vector", ratios[side] if reads else 1.0, 1.0 if reads else ratios[side], p, base)
    if len(grown) > 2:
        raise ValueError(f"{shapes}: at most two sides of a parameter may change with the width")
    out, into = sides or grown
    return Scaling(name, "matrix", ratios[into], ratios[out], p, base)


def _refuse_inconsistent(found: list[Scaling]) -> None:
    """One size of the base must not become two: a side that is 64 there is 256 here, or it is another side."""
    became: dict[int, dict[int, str]] = defaultdict(dict)
    for s in found:
        for n, m in zip(s.parameter.shape, s.base.shape, strict=True):
            if n != m:
                became[m].setdefault(n, s.name)
    for m, sizes in became.items():
        if len(sizes) > 1:
            (one, first), (two, second) = list(sizes.items())[:2]
            raise ValueError(
                f"the widths are not scaled alike: a side of {m} in base is {one} in {first} of model and {two} in "
                f"{second}"
            )


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def rms(x: Tensor) -> float:
    """The root of the mean square, in double; 0 for no elements."""
    return float(x.detach().double().square().mean().sqrt()) if x.numel() else 0.0

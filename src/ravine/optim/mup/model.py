"""What muP changes in a model: its initial weights, a multiplier at its readout, the scale of its attention."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ravine.optim.mup.shapes import compare, readouts, rms


class Multiplier:
    """A hook that multiplies the first input of a module, or its output.

    It is no part of the state dict, and is copied and pickled with its module. `torch.compile` traces through it.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor | None = None) -> Any:
        if output is not None:
            return output * self.factor
        return inputs[0] * self.factor, *inputs[1:]


@torch.no_grad()
def initialise(model: nn.Module, base: nn.Module) -> None:
    """Rescale a new model's weights, in place, to the sizes that muP asks for (TP V, Table 8).

    Each parameter gets the root mean square that it has in the base model, matrices √(base fan-in / fan-in) of it. So
    the base model's own initialisation is what is carried to the width, whether it depends on the fan-in or not, and
    what begins constant (zeros, ones) stays as it is. The paper recommends a readout that begins at zero: let the
    model's constructor do that, at every width.

    Args:
        model: the model to train, newly initialised.
        base: the same model at its base width, with its initial values; not on the meta device.

    Raises:
        ValueError: if the base has no values, a parameter is zero here and not in the base, or for what `compare`
            refuses; the model is unchanged then.
    """
    factors = []
    for s in compare(model, base):
        if s.base.is_meta or s.parameter.is_meta:
            who = "base" if s.base.is_meta else "model"
            raise ValueError(f"initialise needs the values of {who}, which is on the meta device; build it on the CPU")
        wanted = rms(s.base) / (math.sqrt(s.fan_in) if s.kind == "matrix" else 1.0)
        have = rms(s.parameter)
        if have == 0 and wanted != 0:
            raise ValueError(f"{s.name} is zero in model and not in base; initialise both alike")
        factors.append((s.parameter, wanted / have if have else 1.0))
    for p, factor in factors:
        p.mul_(factor)


def scale_readout(model: nn.Module, base: nn.Module) -> dict[str, float]:
    """Multiply the input of each readout by base fan-in / fan-in (TP V, Table 8), so that logits stay of unit size.

    A bias of the readout is left as it is, and so is an embedding that shares the readout's weight. The multiplier is a
    forward hook, not in the state dict: call this whenever the model is built, before `torch.compile`; called again, it
    replaces what it did.

    Args:
        model: the model to train.
        base: the same model at its base width; may be on the meta device.

    Returns:
        The multiplier of each readout, by the module's name. A readout that is no module of its own, such as
        `F.linear(x, self.embedding.weight)`, is not seen: multiply there.

    Example:
        >>> model, base = (nn.Sequential(nn.Linear(3, n), nn.ReLU(), nn.Linear(n, 2)) for n in (64, 16))
        >>> scale_readout(model, base)
        {'2': 0.25}
    """
    compare(model, base)
    found = {}
    for name, module, wider in list(readouts(model, base)):
        set_multiplier(module, 1 / wider)
        found[name] = 1 / wider
    return found


def scale_attention(queries: Iterable[nn.Module], head_width: int, base_head_width: int) -> None:
    """Make attention q·k·√d₀/d instead of q·k/√d (TP V, Definition 4.1), where heads grow wider with the model.

    With d₀ = 64 that is the paper's 8/d. Not needed where the heads keep their width and there are more of them. The
    outputs of the query projections are multiplied by √(d₀/d), by hooks as in `scale_readout`; a model whose projection
    is fused, or that knows its scale (`attn.scaling` in Hugging Face's), is told √d₀/d there instead.

    Args:
        queries: the layers that make the queries, of every block.
        head_width: d, channels of a head.
        base_head_width: d₀, channels of a head in the base model.

    Raises:
        ValueError: for a width below 1.
    """
    for name, width in (("head_width", head_width), ("base_head_width", base_head_width)):
        if width < 1:
            raise ValueError(f"{name} must be at least 1, got {width}")
    for module in queries:
        _replace(module._forward_hooks)
        module.register_forward_hook(Multiplier(math.sqrt(base_head_width / head_width)))


def set_multiplier(module: nn.Module, factor: float) -> None:
    """Multiply what a module reads by this, instead of what it was multiplied by so far."""
    _replace(module._forward_pre_hooks)
    module.register_forward_pre_hook(Multiplier(factor))


def multiplier(module: nn.Module) -> float | None:
    """What a module's input is multiplied by, None if nothing was said."""
    return next((hook.factor for hook in module._forward_pre_hooks.values() if isinstance(hook, Multiplier)), None)


def _replace(hooks: dict[int, Any]) -> None:
    for key in [key for key, hook in hooks.items() if isinstance(hook, Multiplier)]:
        del hooks[key]

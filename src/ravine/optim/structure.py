"""What a model is made of: its repeated blocks, and the model itself below what torch wraps around it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

# What torch puts between a model and its parts, as attributes and in the names of parameters.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def plain_name(name: str) -> str:
    """A module's or parameter's name without what `torch.compile`, FSDP or checkpointing put into it."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside of `torch.compile`, DataParallel, DistributedDataParallel, FSDP and checkpointing."""
    inner = next((module._modules[name] for name in WRAPPERS if name in module._modules), None)
    if inner is None and isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inner = module.module
    return unwrapped(inner) if isinstance(inner, nn.Module) else module


def is_vector(p: Tensor) -> bool:
    """Whether a tensor, its dimensions after the first flattened, has fewer than two rows or columns."""
    return p.ndim < 2 or (p.numel() > 0 and (len(p) == 1 or p.numel() == len(p)))


def repeated_blocks(model: nn.Module) -> dict[str, int]:
    """The repeated blocks of a model in the order of their registration: their paths, numbered from 1.

    Blocks are the members of an `nn.ModuleList` or `nn.Sequential` that has at least two of the same class with parts
    of their own: the blocks of a transformer, of a ResNet's stage. Lists inside of blocks do not count.

    Example:
        >>> layer = nn.TransformerEncoderLayer(4, 2)
        >>> repeated_blocks(nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)))
        {'1.layers.0': 1, '1.layers.1': 2}
    """
    numbers: dict[str, int] = {}

    def visit(module: nn.Module, path: str) -> None:
        children = {f"{path}.{name}".lstrip("."): unwrapped(child) for name, child in module.named_children()}
        classes = [type(child) for child in children.values()]
        listed = isinstance(module, (nn.ModuleList, nn.Sequential))
        for place, child in children.items():
            has_parts = any(True for part in child.children() for _ in part.parameters())
            if listed and has_parts and classes.count(type(child)) > 1:
                numbers[plain_name(place)] = len(numbers) + 1
            else:
                visit(child, place)

    visit(unwrapped(model), "")
    return numbers


def block_of(name: str, blocks: Mapping[str, int]) -> int | None:
    """The number of the repeated block that a name lies in, None outside of all."""
    parts = name.split(".")
    paths = (".".join(parts[:i]) for i in range(1, len(parts) + 1))
    return next((blocks[path] for path in paths if path in blocks), None)

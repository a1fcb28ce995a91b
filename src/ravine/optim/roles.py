"""What each parameter of a model is: the weight of a hidden layer, an embedding, the output head, a norm, a bias, ...

The role follows from the type of the module that holds the parameter, and from its shape. Nothing depends on what a
model calls its layers.

Example:
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))
    >>> {role.name: role.kind for role in roles(model)}
    {'0.weight': 'matrix', '0.bias': 'bias', '1.weight': 'norm', '1.bias': 'norm', '2.weight': 'head', '2.bias': 'bias'}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from ravine.optim.heads import Head, find_head, named_head
from ravine.optim.structure import is_vector, plain_name, unwrapped

Kind = Literal["matrix", "head", "embedding", "norm", "bias", "vector", "free"]
Split = int | tuple[int, ...] | Literal["stack"] | None

KINDS: tuple[Kind, ...] = ("matrix", "head", "embedding", "norm", "bias", "vector", "free")

CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
)  # fmt: skip
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
GATES = ((nn.LSTM, 4), (nn.LSTMCell, 4), (nn.GRU, 3), (nn.GRUCell, 3), (nn.RNNBase, 1), (nn.RNNCellBase, 1))

# How attention modules call their numbers of heads and a head's size. A fused projection is recognised by its size.
QUERY_HEADS = ("num_heads", "n_heads", "n_head", "nhead", "heads", "num_attention_heads")
KEY_HEADS = ("num_kv_heads", "num_key_value_heads", "n_kv_heads", "n_kv_head", "kv_heads")
HEAD_SIZE = ("head_dim", "attn_head_dim", "head_size")


@dataclass(frozen=True, eq=False)
class Role:
    """What a parameter is.

    Attributes:
        name: its name in the model, without what `torch.compile`, DistributedDataParallel or FSDP put before it.
        parameter: the parameter.
        kind: `matrix`: multiplies activations in a hidden layer. `head`: the same in the output layer, also when tied
            to an embedding. `embedding`: a table of rows. `norm`, `bias`. `vector`: has only one row or column, or
            is flattened. `free`: nothing tells that it is a matrix (positions, tokens, tables, an unknown layer).
        why: the reason, in words.
        names: all its names; more than one where modules share it.
        split: which matrices it is made of. An int k: k equal blocks of rows; a tuple: blocks of so many rows;
            `"stack"`: every `p[i]`; None: itself, its dimensions after the first flattened.
        transposed: its rows are inputs and its columns outputs; `split` counts along the columns then.
        is_layer: it is the weight of a layer that could be a head (Linear, a convolution), not of attention or an RNN.
        unfit: why no rule for matrices may step it; empty if one may.
    """

    name: str
    parameter: Tensor
    kind: Kind
    why: str
    names: tuple[str, ...] = ()
    split: Split = None
    transposed: bool = False
    is_layer: bool = False
    unfit: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The parameter's shape."""
        return tuple(self.parameter.shape)

    def matches(self, pattern: str) -> bool:
        """Whether one of its names fits a pattern as file names do (`"*.router.weight"`)."""
        return any(fnmatchcase(name, pattern) for name in self.names)


def roles(model: nn.Module, head: Head | None = None) -> list[Role]:
    """The role of every parameter that is trained (`requires_grad`), in the model's order, shared ones once.

    Args:
        model: any module.
        head: the output layer, where none is found or another is: a module, a pattern of names of modules or
            parameters, or several of these; `()` if there is none. By default it is, in this order:

            1. what `get_output_embeddings()` (Hugging Face) or `get_classifier()` (timm) returns;
            2. a layer that shares its weight with an embedding;
            3. the only layer with as many outputs as the largest embedding has rows;
            4. the last layer (Linear, convolution), in the order of registration.

            For 3 and 4, layers inside of repeated blocks are no head: if the last weight of the model is in such a
            block, or is attention's or an RNN's, the model has none.

    Raises:
        TypeError: if `model` is no module.
        ValueError: for a `head` that is not in the model, with the nearest name.

    Example:
        >>> [(role.kind, role.split) for role in roles(nn.MultiheadAttention(8, 2))]
        [('matrix', 3), ('bias', None), ('matrix', None), ('bias', None)]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"roles() takes a model (a torch.nn.Module), got {type(model).__name__}")
    model = unwrapped(model)
    modules = {plain_name(path): module for path, module in model.named_modules(remove_duplicate=False)}
    seen: dict[Tensor, list[Role]] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        path, owner, attribute = _owner(model, name)
        parent = modules.get(plain_name(path).rpartition(".")[0])
        seen.setdefault(p, []).append(_role(plain_name(name), p, owner, attribute, parent))
    heads, why = find_head(model, seen) if head is None else named_head(head, modules, seen)
    is_head = set(heads)
    return [_joined(p, held, why if p in is_head else "") for p, held in seen.items() if p.requires_grad]


def _owner(model: nn.Module, name: str) -> tuple[str, nn.Module, str]:
    """The module that computes with a parameter, below any parametrization: its path, itself, and the attribute."""
    path, _, attribute = name.rpartition(".")
    owner = model.get_submodule(path)
    if isinstance(owner, ParametrizationList):
        path, _, attribute = path.rpartition(".")
        path = path.removesuffix("parametrizations").removesuffix(".")
        owner = model.get_submodule(path)
    return path, owner, attribute


def _role(name: str, p: Tensor, owner: nn.Module, attribute: str, parent: nn.Module | None) -> Role:
    """The role that the type of its module gives a parameter."""
    title = type(owner).__name__
    leaf = not any(True for child in owner.children() for _ in child.parameters())
    layer = isinstance(owner, (nn.Linear, *CONVOLUTIONS)) or _is_conv1d(owner, p)
    if type(p).__name__ == "FlatParameter":
        return Role(name, p, "vector", "flattened by FSDP")
    if isinstance(owner, NORMS) or (leaf and "Norm" in title and is_vector(p)):
        return Role(name, p, "norm", title)
    if attribute.startswith("bias") or attribute.endswith("bias"):
        return Role(name, p, "bias", title)
    if (layer and is_vector(p)) or p.numel() == max((1, *p.shape)):
        return Role(name, p, "vector", f"{title}, one row or column", is_layer=layer and attribute == "weight")
    if isinstance(owner, EMBEDDINGS) or (leaf and "Embedding" in title):
        return Role(name, p, "embedding", title)
    if isinstance(owner, CONVOLUTIONS):
        why = f"{title}, {owner.groups} groups" if owner.groups > 1 else title
        return replace(_of_blocks(name, p, owner.groups, why), is_layer=True)
    if layer:
        return _of_linear(name, p, owner, parent)
    if isinstance(owner, nn.MultiheadAttention):
        fused = attribute == "in_proj_weight"
        return Role(name, p, "matrix", f"{title}, fused" if fused else title, split=3 if fused else None)
    for recurrent, gates in GATES:
        if isinstance(owner, recurrent):
            gates = 1 if "_hr_" in attribute else gates
            return _of_blocks(name, p, gates, f"{title}, {gates} gates" if gates > 1 else title)
    if isinstance(owner, nn.Bilinear):
        return Role(name, p, "matrix", f"{title}, {len(p)} matrices", split="stack")
    return _of_unknown(name, p, owner, attribute, leaf)


def _is_conv1d(owner: nn.Module, p: Tensor) -> bool:
    """Whether this is transformers' Conv1D: a linear layer with `nf` outputs whose weight is (inputs, outputs)."""
    return type(owner).__name__ == "Conv1D" and p.ndim == 2 and p.shape[1] == getattr(owner, "nf", None)


def _of_linear(name: str, p: Tensor, owner: nn.Module, parent: nn.Module | None) -> Role:
    transposed = not isinstance(owner, nn.Linear)
    inputs, outputs = (len(p), p.shape[1]) if transposed else (p.shape[1], len(p))
    split = _fused_attention(parent, inputs, outputs)
    why = f"{type(owner).__name__}, fused" if split else type(owner).__name__
    of_attention = isinstance(parent, nn.MultiheadAttention)
    return Role(name, p, "matrix", why, split=split, transposed=transposed, is_layer=not of_attention)


def _of_blocks(name: str, p: Tensor, k: int, why: str) -> Role:
    """k equal blocks of rows; where such a block is a single row or column, the parameter is no matrix."""
    if k > 1 and is_vector(p[: len(p) // k]):
        return Role(name, p, "vector", f"{why}, each one row or column")
    return Role(name, p, "matrix", why, split=k if k > 1 else None)


def _fused_attention(attention: nn.Module | None, inputs: int, outputs: int) -> Split:
    """The split of a layer in an attention module with h query heads and k key heads of size s, else None.

    (h + 2k)·s outputs are queries, keys and values, one after another; with k = h, 2·h·s outputs are two of them. The
    module holds at least one of the two numbers itself; its `config` may hold the other. Else k = h and s = inputs / h.
    """
    if attention is None or not any(isinstance(getattr(attention, a, None), int) for a in QUERY_HEADS + KEY_HEADS):
        return None
    queries = _number(attention, QUERY_HEADS)
    if queries is None:
        return None
    keys = _number(attention, KEY_HEADS) or queries
    size = _number(attention, HEAD_SIZE) or inputs // queries
    if outputs == (queries + 2 * keys) * size:
        return 3 if keys == queries else (queries * size, keys * size, keys * size)
    return 2 if keys == queries and outputs == 2 * queries * size else None


def _number(module: nn.Module, attributes: Sequence[str]) -> int | None:
    """The first of these attributes of a module, else of its `config`, that is a whole number above 0."""
    for holder in (module, getattr(module, "config", None)):
        for attribute in attributes:
            value = getattr(holder, attribute, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None


def _of_unknown(name: str, p: Tensor, owner: nn.Module, attribute: str, leaf: bool) -> Role:
    """A parameter of a module that torch does not know: a matrix only where that is beyond doubt.

    AdamW on a matrix costs a little; a matrix rule on a table of positions is wrong.
    """
    title = type(owner).__name__
    if not leaf:
        return Role(name, p, "free", f"held by {title} itself, not by a layer")
    stacks = [q for q in owner.parameters(recurse=False) if q.ndim > 2 and len(q) == len(p) > 1]
    experts = len(p) > 1 and len(p) == getattr(owner, "num_experts", None)
    if p.ndim == 3 and (len(stacks) > 1 or experts):
        transposed = getattr(owner, "is_transposed", False) is True
        return Role(name, p, "matrix", f"{title}, {len(p)} matrices", split="stack", transposed=transposed)
    if p.ndim == 2 and attribute == "weight" and not stacks:
        return Role(name, p, "matrix", title, is_layer=True)
    return Role(name, p, "free", f"{title}, a class not known")


def _joined(p: Tensor, held: Sequence[Role], head: str) -> Role:
    """One role for a parameter that one or more modules hold; `head` says by what it is the head's, if it is."""
    tables = [role for role in held if role.kind == "embedding"]
    role = replace((tables or held)[0], name=held[0].name, names=tuple(dict.fromkeys(role.name for role in held)))
    if tables:
        role = replace(role, unfit="an embedding is a table whose rows are used one at a time")
    elif is_vector(p) or role.kind == "vector":
        role = replace(role, unfit=f"it is no matrix ({role.why})")
    if head and role.kind not in ("norm", "bias") and p.ndim > 1:
        tied = f", tied to {tables[0].name}" if tables and len(role.names) > 1 else ""
        role = replace(role, kind="head", why=head if not tied else f"{head}{tied}", split=None)
    return role

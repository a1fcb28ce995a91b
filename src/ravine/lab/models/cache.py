"""Keys and values of the tokens read so far, so that each further token costs one position and not all of them."""

from __future__ import annotations

from torch import Tensor


class LayerCache:
    """Keys and values of one layer. Room for `capacity` tokens is made once, at the first ones, and never grows.

    Example:
        >>> import torch
        >>> cache = LayerCache(capacity=8)
        >>> keys, values = cache.append(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
        >>> keys, values = cache.append(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4))
        >>> cache.length, keys.shape
        (4, torch.Size([1, 2, 4, 4]))
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self._room: tuple[Tensor, Tensor] | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys and values of further tokens, (batch, heads, time, head width); returns those of all so far.

        Room is made in the type and on the device of the first ones: under autocast that is not the parameters' type.

        Raises:
            ValueError: if they do not fit, or are of another number of sequences.
        """
        batch, heads, time, width = keys.shape
        end = self.length + time
        if end > self.capacity:
            raise ValueError(f"the cache has room for {self.capacity} tokens, got {end}")
        if self._room is None:
            shape = (batch, heads, self.capacity, width)
            self._room = keys.new_empty(shape), values.new_empty(shape)
        if batch != len(self._room[0]):
            raise ValueError(f"the cache holds {len(self._room[0])} sequences, got {batch}")
        for room, new in zip(self._room, (keys, values), strict=True):
            room[:, :, self.length : end] = new
        self.length = end
        all_keys, all_values = self._room
        return all_keys[:, :, :end], all_values[:, :, :end]


class KeyValueCache:
    """The caches of all layers of a transformer: 2 · layers · kv_heads · head width · capacity numbers a sequence."""

    def __init__(self, layers: int, capacity: int) -> None:
        self.layers = [LayerCache(capacity) for _ in range(layers)]

    @property
    def length(self) -> int:
        """Tokens read so far."""
        return self.layers[0].length

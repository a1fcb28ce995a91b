"""The values that are not arrays: the vanishing zero, the absent basis, and how a value speaks for itself."""

from __future__ import annotations

from typing import Any


def speaker(*values: Any) -> Any:
    """The value among `values` that answers for the whole operation, or None when plain arrays and floats remain.

    A value speaks by having a method `__ravine__(operation, arguments)`. Where several do, the one with the
    highest `__ravine_rank__` answers: an `Origin` before a symbol, a symbol before a host scalar.
    """
    best, best_rank = None, -1
    for value in values:
        rank = getattr(value, "__ravine_rank__", -1)
        if rank > best_rank:
            best, best_rank = value, rank
    return best


class Arithmetic:
    """Operators for values that speak for themselves: each becomes one call of `__ravine__`.

    Adding, subtracting or multiplying by `ZERO` is settled here, so that no such value ever sees one.
    """

    __array_ufunc__ = None
    __ravine_rank__ = 0
    __hash__ = object.__hash__

    def __ravine__(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        raise TypeError(f"{type(self).__name__} has no operation {operation!r}")

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return NotImplemented

    def _apply(self, operation: str, left: Any, right: Any) -> Any:
        return speaker(left, right).__ravine__(operation, (left, right))

    def __add__(self, other: Any) -> Any:
        return self if isinstance(other, Zero) else self._apply("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return self if isinstance(other, Zero) else self._apply("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return self if isinstance(other, Zero) else self._apply("subtract", self, other)

    def __rsub__(self, other: Any) -> Any:
        return -self if isinstance(other, Zero) else self._apply("subtract", other, self)

    def __mul__(self, other: Any) -> Any:
        return other if isinstance(other, Zero) else self._apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Any:
        return other if isinstance(other, Zero) else self._apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self._apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return other if isinstance(other, Zero) else self._apply("divide", other, self)

    def __matmul__(self, other: Any) -> Any:
        return self if isinstance(other, Eye) else self._apply("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return self if isinstance(other, Eye) else self._apply("matmul", other, self)

    def __pow__(self, exponent: Any) -> Any:
        return self._apply("power", self, exponent)

    def __rpow__(self, base: Any) -> Any:
        return self._apply("power", base, self)

    def __mod__(self, other: Any) -> Any:
        return self._apply("modulo", self, other)

    def __floordiv__(self, other: Any) -> Any:
        return self._apply("floor_divide", self, other)

    def __neg__(self) -> Any:
        return self.__ravine__("negative", (self,))

    def __abs__(self) -> Any:
        return self.__ravine__("abs", (self,))

    def __invert__(self) -> Any:
        return self.__ravine__("not", (self,))

    def __gt__(self, other: Any) -> Any:
        return self._apply("greater", self, other)

    def __lt__(self, other: Any) -> Any:
        return self._apply("less", self, other)

    def __ge__(self, other: Any) -> Any:
        return self._apply("greater_equal", self, other)

    def __le__(self, other: Any) -> Any:
        return self._apply("less_equal", self, other)

    def __eq__(self, other: Any) -> Any:
        return self._apply("equal", self, other)

    def __ne__(self, other: Any) -> Any:
        return self._apply("not_equal", self, other)

    def __and__(self, other: Any) -> Any:
        return self._apply("and", self, other)

    def __rand__(self, other: Any) -> Any:
        return self._apply("and", other, self)

    def __or__(self, other: Any) -> Any:
        return self._apply("or", self, other)

    def __ror__(self, other: Any) -> Any:
        return self._apply("or", other, self)


class Zero(float):
    """The float 0 that vanishes: `ZERO * x` is `ZERO` and `x + ZERO` is `x`, for every kind of value.

    Absent states and pinned hyperparameters are `ZERO`, so a rule needs no branch for them and a compiled
    step moves no memory for them.

    >>> import numpy as np
    >>> x = np.ones(2)
    >>> (x + ZERO * x) is x
    True
    """

    __array_ufunc__ = None
    __slots__ = ()

    def __new__(cls) -> Zero:
        return super().__new__(cls, 0.0)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return NotImplemented

    def __repr__(self) -> str:
        return "ZERO"

    def __reduce__(self) -> Any:
        return (Zero, ())

    def _vanish(self, other: Any) -> Any:
        return self

    __mul__ = __rmul__ = __truediv__ = __pow__ = __matmul__ = __rmatmul__ = _vanish  # type: ignore[assignment]

    def __add__(self, other: Any) -> Any:
        return other

    __radd__ = __rsub__ = __add__

    def __sub__(self, other: Any) -> Any:
        return -other

    def __neg__(self) -> Zero:
        return self

    __abs__ = __pos__ = __neg__


class Eye:
    """The absent basis: `EYE @ x` and `x @ EYE` are `x`."""

    __array_ufunc__ = None

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return NotImplemented

    def __matmul__(self, other: Any) -> Any:
        return other

    __rmatmul__ = __matmul__

    def __repr__(self) -> str:
        return "EYE"

    def __reduce__(self) -> Any:
        return (Eye, ())


ZERO = Zero()
EYE = Eye()


class Origin(Arithmetic):
    """The parameter as an update-side wrapper shows it to a rule: `p - x` remembers `x`, and weight decay beside it.

    A wrapper that works on the update needs `x` itself; `q - p` would round it away (at a learning rate of
    1e-8 it is 0 for most elements). Everywhere else an `Origin` behaves as the value it stands for.
    """

    __ravine_rank__ = 3
    __slots__ = ("start", "moved", "decayed")

    def __init__(self, start: Any, moved: Any = ZERO, decayed: Any = ZERO) -> None:
        self.start = start
        self.moved = moved
        self.decayed = decayed

    @property
    def ndim(self) -> int:
        return int(getattr(self.start, "ndim", 0))

    def value(self) -> Any:
        """The plain value: the start less what was subtracted."""
        return self.start - (self.moved + self.decayed)

    def __ravine__(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        if operation == "subtract" and arguments[0] is self:
            return self.less(plain(arguments[1]))
        from ravine.math import apply

        return apply(operation, *(plain(a) for a in arguments))

    def less(self, moved: Any, decayed: Any = ZERO) -> Origin:
        """This, less an update and a weight decay."""
        return Origin(self.start, self.moved + moved, self.decayed + decayed)


class Apart(Arithmetic):
    """A sum of which one part is weight decay, told apart through sums and multiples until `p - x` keeps both.

    An update-side wrapper gives the rule `Apart(ZERO, weight_decay)` as its `weight_decay`, and so learns which part of
    the update is decay, whatever the rule multiplies it by. Everywhere else it behaves as the sum.
    """

    __ravine_rank__ = 4
    __slots__ = ("rest", "decay")

    def __init__(self, rest: Any, decay: Any) -> None:
        self.rest = rest
        self.decay = decay

    @property
    def ndim(self) -> int:
        return int(getattr(self.value(), "ndim", 0))

    def value(self) -> Any:
        """The plain value: both parts."""
        return self.rest + self.decay

    def __ravine__(self, operation: str, arguments: tuple[Any, ...]) -> Any:
        from ravine.math import apply

        first, second = arguments if len(arguments) == 2 else (arguments[0], ZERO)
        if operation == "subtract" and isinstance(first, Origin) and isinstance(second, Apart):
            return first.less(second.rest, second.decay)
        if operation == "negative":
            return Apart(-self.rest, -self.decay)
        if operation in ("add", "subtract"):
            parts = [(x.rest, x.decay) if isinstance(x, Apart) else (plain(x), ZERO) for x in (first, second)]
            (rest, decay), (other, other_decay) = parts
            if operation == "add":
                return Apart(rest + other, decay + other_decay)
            return Apart(rest - other, decay - other_decay)
        if operation in ("multiply", "divide") and isinstance(first, Apart) is not isinstance(second, Apart):
            if isinstance(first, Apart):
                other = plain(second)
                return Apart(*(apply(operation, x, other) if has(x) else x for x in (first.rest, first.decay)))
            if operation == "multiply":
                return Apart(*(plain(first) * x for x in (self.rest, self.decay)))
        return apply(operation, *(plain(a) for a in arguments))


def plain(value: Any) -> Any:
    """`value` without the memory of an `Origin` or an `Apart`."""
    return value.value() if isinstance(value, (Origin, Apart)) else value


def has(value: Any) -> bool:
    """Whether a state or hyperparameter is there: False for `ZERO` and `EYE`."""
    return not isinstance(value, (Zero, Eye))

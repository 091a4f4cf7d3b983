"""What is known of an operator, such as its norm: kept while it multiplies as it did.

An operator is any object, and may change in ways that nobody can list: a kernel that learns, a mask that is replaced, a
global variable. So it is not watched but asked: each call of a solver multiplies random directions by A and by Aᴴ, as
it tests the adjoint (:mod:`.dot_test`), always the same ones for the same shapes. (An operator of this package, whose
adjoint is right, is asked by those calls alone that look for what is known.) What is known holds for an operator
that is the same object and yields the same inner products of each sample to the last bit. A change of a singular value
by more than about √n·ε of it shows in these, whatever it comes from. Where products are never twice the same, nothing
is kept.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

SHAPES = 8  # of an operator, at most: the latest

_of_operators: dict[int, dict[Hashable, Known]] = {}


class Known:
    """Of an operator, and of samples of one shape and type.

    seen: numbers by which it is known again. sound: whether its adjoint is its adjoint.
    """

    def __init__(self, seen: Tensor) -> None:
        self.seen, self.sound = seen, False
        self._values: dict[Hashable, Any] = {}

    def kept(self, what: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` makes of the operator alone, and of the shape and type of its samples."""
        if what not in self._values:
            self._values[what] = make()
        value: T = self._values[what]
        return value


def known(op: Any, kind: Hashable, seen: Tensor) -> Known:
    """What is known of an operator for samples of a kind, if it is as it was: nothing, where it is not."""
    try:
        kinds = _of_operators.get(id(op))
        if kinds is None:
            weakref.finalize(op, _of_operators.pop, id(op), None).atexit = False
            kinds = _of_operators[id(op)] = {}
    except TypeError:  # no weak references: nothing would tell when it is gone
        return Known(seen)
    found = kinds.pop(kind, None)
    if found is None or not torch.equal(found.seen, seen):
        found = Known(seen)
    kinds[kind] = found
    while len(kinds) > SHAPES:
        kinds.pop(next(iter(kinds)), None)
    return found

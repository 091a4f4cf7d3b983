"""LISTA in JAX."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import fastunroll as fu
import numpy as np
from harness import Contestant
from lista_eager import weights
from torch import Tensor

MISSING = None if find_spec("jax") else "JAX left out: not installed; pip install '.[bench]'"


def _columns(group: list[Tensor]) -> list[Any]:
    """Returns transposed weights, because JAX is fastest with matrices on the right."""
    import jax.numpy as jnp

    return [jnp.asarray(w.detach().numpy().T.copy()) for w in group]


def _network(y: Any, w1: list[Any], w2: list[Any], theta: list[Any]) -> Any:
    """``w2`` without that of the first layer. The sign is quicker than z − clip(z, −θ, θ), forward and backward."""
    import jax.numpy as jnp

    def shrink(z: Any, threshold: Any) -> Any:
        return jnp.sign(z) * jnp.maximum(jnp.abs(z) - threshold, 0)

    seen = y @ w1[0]
    x = shrink(seen, theta[0])
    for k in range(1, len(theta)):
        if len(w1) > 1:
            seen = y @ w1[k]
        x = shrink(seen + x @ w2[k - 1 if len(w2) > 1 else 0], theta[k])
    return x


def _weights(model: fu.nn.LISTA) -> tuple[list[Any], list[Any], list[Any]]:
    w1, w2, theta = weights(model)
    return _columns(w1), _columns(w2 if model.tied else w2[1:]), _columns(theta)


def forward(model: fu.nn.LISTA, y: Tensor) -> Contestant:
    """Compiles the network with weights as arguments. Constants take the same time and twice the memory."""
    import jax

    program = jax.jit(_network)
    arguments = jax.numpy.asarray(y.numpy()), *_weights(model)
    return Contestant(lambda: program(*arguments).block_until_ready(), own_threads=True)


def _read(model: fu.nn.LISTA) -> Callable[[Any], list[Any]]:
    def read(result: Any) -> list[Any]:
        _, groups = result
        return [np.asarray(gradient).T for group in groups for gradient in group]

    return read


def training(model: fu.nn.LISTA, y: Tensor, truth: Tensor) -> Contestant:
    import jax

    def loss(parameters: Any, seen: Any, target: Any) -> Any:
        return ((_network(seen, *parameters) - target) ** 2).sum()

    data = jax.numpy.asarray(y.numpy()), jax.numpy.asarray(truth.numpy())
    parameters = _weights(model)
    program = jax.jit(jax.value_and_grad(loss)).lower(parameters, *data).compile()
    return Contestant(lambda: jax.block_until_ready(program(parameters, *data)), _read(model), own_threads=True)

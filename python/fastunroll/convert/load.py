"""Recognises a network by the names of its tensors, and loads it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .. import _checks
from ..nn import UnrolledNetwork
from . import adopty, alista, pytorch, tensorflow
from .source import Source, listed, pattern, read


@dataclass(frozen=True)
class Convention:
    """A way of naming tensors: those that must occur, those that may, and how to load them."""

    name: str
    required: tuple[str, ...]
    load: Callable[..., UnrolledNetwork]
    optional: tuple[str, ...] = ()

    def fits(self, names: list[str]) -> bool:
        def found(template: str) -> bool:
            return any(pattern(template).fullmatch(name) for name in names)

        known = [pattern(template) for template in (*self.required, *self.optional)]
        return (
            bool(names)
            and all(map(found, self.required))
            and all(any(p.fullmatch(name) for p in known) for name in names)
        )

    def options(self) -> list[str]:
        return [name for name in inspect.signature(self.load).parameters if name != "source"]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.required or self.optional)})"


def _without(name: str, why: str, *required: str, optional: tuple[str, ...] = ()) -> Convention:
    """One that is known, and that no network here can be."""

    def load(source: Source, **_: object) -> UnrolledNetwork:
        raise ValueError(f"{name} cannot be converted: {why}")

    return Convention(name, required, load, optional)


_BUFFERS = ("At", "Wt", "L_ref")
CONVENTIONS = (
    Convention("fastunroll's LISTA", ("W1.{k}", "W2.{k}", "theta.{k}"), pytorch.load_own),
    Convention("the copied idiom", ("_W.weight", "_S.weight"), pytorch.load_copied, ("thr",)),
    Convention("HyperLISTA's LISTA", ("B", "W.{k}", "theta.{k}"), pytorch.load_hyperlista_lista, ("A", *_BUFFERS)),
    Convention("HyperLISTA's ALISTA", ("gamma.{k}", "theta.{k}", "A", "W"), alista.load_hyperlista_alista, _BUFFERS),
    Convention("na-alista", ("gamma.{k}", "theta.{k}"), alista.load_na_alista),
    Convention("adopty", (), adopty.load_adopty, adopty.TEMPLATES),
    Convention("AdaLISTA's LISTA", ("A.weight", "B.weight", "etas", "gammas"), pytorch.load_ada_lista_lista),
    Convention("Ada-LISTA", ("W1.weight", "W2.weight", "etas", "gammas"), pytorch.load_ada_lista),
    Convention(
        "sparse-representation", ("weight_input", "weight_lateral", "soft_shrink.lambd"),
        pytorch.load_sparse_representation,
    ),
    Convention("onsager_deep_learning's LISTA", ("B_0:0", "S_0:0", "lam_{k}:0"), tensorflow.load_onsager_lista),
    Convention("onsager_deep_learning's LAMP", ("B_{k}:0", "theta_{k}:0"), tensorflow.load_onsager_lamp),
    Convention(
        "LISTA-CPSS's LISTA", ("B:0", "theta_{k}:0"), tensorflow.load_vita_lista, ("W:0", "W_{k}:0")
    ),
    Convention("LISTA-CPSS's LISTA-CP", ("theta_{k}:0",), tensorflow.load_vita_cp, ("W:0", "W_{k}:0")),
    Convention("LISTA-CPSS's LAMP", ("lam_{k}:0",), tensorflow.load_vita_lamp, ("B:0", "B_{k}:0")),
    Convention("LISTA-CPSS's ALISTA", ("alpha_{k}:0", "theta_{k}:0"), tensorflow.load_vita_alista),
)  # fmt: skip
_REFUSED = (
    _without("NA-ALISTA", "its steps and thresholds come from an LSTM, which no network here has", "regressor.{*}"),
    _without(
        "AGLISTA", "its gain multiplies x in the residual only, and GLISTA's everywhere",
        "gamma.{k}", "theta.{k}", "a.{k}", "v.{k}", "vu.{k}", "theta_initial.{k}",
    ),
)  # fmt: skip


def load_lista(
    mapping: Mapping[str, Any] | str | os.PathLike[str], A: Tensor | None = None, **options: Any
) -> UnrolledNetwork:
    """The network of this package that computes what saved weights of another did.

    What they are follows from their names; {k} is a number. Samples are rows here whatever they were there. A
    ``module.`` before all names, and any other prefix, is dropped; so is what is saved beside ``state_dict``.

    ============================================ ========================= ================================
    names                                        from, to                  what is to be given
    ============================================ ========================= ================================
    W1.{k}, W2.{k}, theta.{k}                    ``nn.LISTA`` itself
    _W.weight, _S.weight                         the copied idiom; LISTA   ``theta``; ``max_iter`` or ``layers``
    _W.weight, _S.weight, thr                    the same, K thresholds    for one threshold: as above
    B, W.{k}, theta.{k}                          HyperLISTA; LISTA
    gamma.{k}, theta.{k}, A, W                   HyperLISTA; ALISTA        ``selection``, (1.2, 13.0) by default
    gamma.{k}, theta.{k}                         na-alista; ALISTA         ``A``, ``p``; ``W`` if not analytic
    layer{k}-Wx, -Wz, -threshold                 adopty; LISTA             ``lam``
    layer{k}-W_coupled, -W_hessian, -threshold   adopty; LISTACP           ``A``, ``lam``
    layer{k}-step_size (, -threshold)            adopty; StepLISTA, ALISTA ``A``, ``lam``; ``W`` if not analytic
    A.weight, B.weight, etas, gammas             AdaLISTA's LISTA; LISTA   ``lam``
    W1.weight, W2.weight, etas, gammas           Ada-LISTA; LISTA          ``A``, ``lam``
    weight_input, weight_lateral, soft_shrink.*  sparse-representation     ``layers``, its n_folds
    B_0:0, S_0:0, lam_{k}:0                      onsager, .npz; LISTA
    B_{k}:0, theta_{k}:0                         onsager, .npz; LAMP       ``A``, ``shrinkage``
    B:0, W:0 or W_{k}:0, theta_{k}:0             LISTA-CPSS, .npz; LISTA   ``selection`` if it is LISTA-SS
    W:0 or W_{k}:0, theta_{k}:0                  LISTA-CPSS; LISTACP       ``A``; ``selection`` if it is CPSS
    B:0 or B_{k}:0, lam_{k}:0                    LISTA-CPSS, .npz; LAMP    ``A``
    alpha_{k}:0, theta_{k}:0                     LISTA-CPSS, .npz; ALISTA  ``A``, ``W``, ``selection``
    ============================================ ========================= ================================

    Some names do not tell all: LISTA-SS has those of LISTA, and CPSS those of CP, unless ``selection`` is given;
    na-alista's ALISTA-AT has those of its ALISTA, for which it is taken; Ada-LFISTA those of Ada-LISTA. The copied
    idiom is taken to run ``max_iter`` + 1 shrinkages, or one if ``max_iter`` is 1, as its copies do: check yours, and
    give ``layers``, the number of shrinkages, if it differs.

    na-alista lets the largest pass whether or not they exceed θ; unless ``p`` is 0 its network is a subclass of
    ALISTA that does so, layer by layer. Of the pair that sparse-representation returns, here is the code, not the
    reconstruction. Where magnitudes are equal, what passes may differ.

    Where the source shares a tensor between layers it is one parameter in several places; a threshold that was a
    constant does not learn. Clamped thresholds are clamped once, here. Gradients are those of the source, but by other
    parameters where those here are logarithms or products: the function is the same, its training not to the digit.

    Args:
        mapping: a state dict of tensors or NumPy arrays; or the path of an ``.npz`` file, or of one that ``torch.load``
            reads with ``weights_only=True``.
        A: (m, n), where the mapping does not hold it.
        options: see above. ``theta``: the constant threshold. ``layers``, ``max_iter``: how deep it was.
            ``lam``: λ of adopty, ``lambd`` of AdaLISTA. ``W``: (m, n), in the place of
            :func:`fastunroll.nn.analytic_weights`. ``p``: how many pass in each layer, as na-alista had it.
            ``selection``: percentages (more in each layer, at most), None for none. ``shrinkage``: ``"soft"`` or
            ``"bernoulli-gaussian"``.

    Raises:
        TypeError: ``mapping`` is not one; a tensor is not floating point; or an option that its convention has not.
        ValueError: names that no convention has; missing layers; shapes that do not fit; values that are not finite;
            something to be given is not; or no network here computes the same.

    Example::

        net = fu.convert.load_lista(torch.load("lista.pt"), theta=0.1 / L, max_iter=30)
        net = fu.convert.load_lista("LAMP_bg_giid.npz", A, shrinkage="bernoulli-gaussian")
    """
    values = read(mapping)
    convention, values = _recognised(values)
    allowed = convention.options()
    if A is not None and "A" in allowed:
        options["A"] = A
    for name in options:
        if name not in allowed and convention not in _REFUSED:
            raise TypeError(f"{convention.name} takes {listed(allowed) or 'no options'}, got {name}")
    net = convention.load(Source(values, convention.name), **options)
    if A is not None and tuple(A.shape) != (net.m, net.n):
        raise ValueError(
            f"A is {_checks.shape_text(A.shape)}, but the mapping holds a network of m = {net.m} and n = {net.n}"
        )
    return net


def _recognised(values: dict[str, Any]) -> tuple[Convention, dict[str, Any]]:
    """The convention, and the values by the names that it has."""
    prefix = ""
    while all(name.startswith(prefix) for name in values):
        short = {name[len(prefix) :]: value for name, value in values.items()}
        for convention in (*CONVENTIONS, *_REFUSED):
            if convention.fits([*short]):
                return convention, short
        first = next(iter(short), "")
        ends = [first.index(mark) for mark in "./" if mark in first]
        if not ends:
            break
        prefix += first[: min(ends) + 1]
    raise ValueError(
        f"the mapping holds no network that is known: expected the names of {'; '.join(map(str, CONVENTIONS))}; "
        f"found {listed(values) or 'nothing'}"
    )

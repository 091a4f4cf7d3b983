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
from . import adopty, alista, own, pytorch, tensorflow
from .source import Source, as_tensor, is_finite, listed, pattern, read


@dataclass(frozen=True)
class Convention:
    """A way of naming tensors: those that must occur, those that may, and how to load them."""

    name: str
    required: tuple[str, ...]
    load: Callable[..., UnrolledNetwork]
    optional: tuple[str, ...] = ()
    source: type[Source] = Source

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


def _without(name: str, why: str, *required: str, optional: tuple[str, ...] = ()) -> Convention:
    """One that is known, and that no network here can be."""

    def load(source: Source, **_: object) -> UnrolledNetwork:
        raise ValueError(f"{name} cannot be converted: {why}")

    return Convention(name, required, load, optional)


def _own(name: str, load: Callable[..., UnrolledNetwork], *required: str, optional: tuple[str, ...] = ()) -> Convention:
    """A network of ``nn``."""
    return Convention(f"fastunroll's {name}", required, load, optional, own.OwnSource)


_BUFFERS = ("At", "Wt", "L_ref")
_SOFT = ("shrinkage.log_alpha.{k}", "shrinkage.log_scale.{k}")
_BERNOULLI_GAUSSIAN = ("shrinkage.log_power.{k}", "shrinkage.logit.{k}")
_SVD = ("A", "Ut", "Vt", "s", "log_noise.{k}")
CONVENTIONS = (
    Convention("fastunroll's LISTA", ("W1.{k}", "W2.{k}", "theta.{k}"), pytorch.load_own),
    _own("LISTASS", own.load_lista_ss, "W1.{k}", "W2.{k}", "log_theta.{k}"),
    _own("LFISTA", own.load_lfista, "W1.{k}", "W2.{k}", "log_theta.{k}", "beta.{k}"),
    _own("StepLISTA", own.load_step_lista, "A", "log_step.{k}"),
    _own("LISTACP or LISTACPSS", own.load_lista_cp, "A", "W.{k}", "log_theta.{k}"),
    _own("ALISTA or TiLISTA", own.load_alista, "A", "W", "log_step.{k}", "log_theta.{k}"),
    _own("GLISTA", own.load_glista, "A", "W.{k}", "log_theta.{k}", "log_D.{k}", "kappa.{k}", "overshoot.{k}"),
    _own("HyperLISTA", own.load_hyperlista, "A", "W", "pinv", "coherence", "c"),
    _own("ADMMNet", own.load_admm_net, "A", "log_eta.{k}", "log_theta.{k}",
         optional=("U", "s", "Vh", "sVh", "log_rho.{k}", "W.{k}")),
    _own("LAMP", own.load_lamp, "A", "W.{k}", *_SOFT),
    _own("Bernoulli-Gaussian LAMP", own.load_lamp, "A", "W.{k}", *_BERNOULLI_GAUSSIAN),
    _own("LVAMP", own.load_lvamp, *_SVD, *_SOFT),
    _own("Bernoulli-Gaussian LVAMP", own.load_lvamp, *_SVD, *_BERNOULLI_GAUSSIAN),
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
    _without(
        "a network that load_lista has made", "it keeps what its state dict does not hold: load its source again",
        "theta_sign", "step_sign", optional=("{*}",),
    ),
)  # fmt: skip


def load_lista(
    mapping: Mapping[str, Any] | str | os.PathLike[str], A: Tensor | None = None, **options: Any
) -> UnrolledNetwork:
    """The network of this package that computes what saved weights of another did.

    The names of its tensors tell which network it is; {k} is a number. Samples are rows here whatever they were there.
    A ``module.`` before all names, and any other prefix, is dropped; so is what is saved beside ``state_dict``.

    ============================================ =========================== ===============================
    names                                        from; to                    options to be given
    ============================================ =========================== ===============================
    W1.{k}, W2.{k}, theta.{k}                    ``nn.LISTA`` itself
    those of any other network of ``nn``         that network itself         see below
    _W.weight, _S.weight                         the copied idiom; LISTA     ``theta``; ``max_iter`` or ``layers``
    _W.weight, _S.weight, thr                    the same, K thresholds      for one threshold: as above
    B, W.{k}, theta.{k}                          HyperLISTA; LISTA
    gamma.{k}, theta.{k}, A, W                   HyperLISTA; ALISTA          ``selection``
    gamma.{k}, theta.{k}                         na-alista; ALISTA           ``A``, ``W``, ``p``, ``network``
    layer{k}-Wx, -Wz, -threshold                 adopty; LISTA               ``lam``; ``of_y`` if D is square
    layer{k}-W_coupled, -W_hessian, -threshold   adopty; LISTACP             ``A``, ``lam``
    layer{k}-step_size                           adopty; StepLISTA           ``A``, ``lam``
    layer{k}-step_size, -threshold               adopty; ALISTA              ``A``, ``lam``, ``W``
    A.weight, B.weight, etas, gammas             AdaLISTA's LISTA; LISTA     ``lam``
    W1.weight, W2.weight, etas, gammas           Ada-LISTA; LISTA            ``A``, ``lam``, ``network``
    weight_input, weight_lateral, soft_shrink.*  sparse-representation       ``layers``, its n_folds
    B_0:0, S_0:0, lam_{k}:0                      onsager, .npz; LISTA
    B_{k}:0, theta_{k}:0                         onsager, .npz; LAMP         ``A``; ``shrinkage`` for 2 numbers
    B:0, W:0 or W_{k}:0, theta_{k}:0             LISTA-CPSS; LISTA, LISTASS  ``selection``
    W:0 or W_{k}:0, theta_{k}:0                  LISTA-CPSS; LISTACP, CPSS   ``A``, ``selection``
    B:0 or B_{k}:0, lam_{k}:0                    LISTA-CPSS, .npz; LAMP      ``A``
    alpha_{k}:0, theta_{k}:0                     LISTA-CPSS, .npz; ALISTA    ``A``, ``W``, ``selection``
    ============================================ =========================== ===============================

    An option that decides what is computed is asked for, never guessed. A state dict of ``nn`` needs ``selection`` for
    ALISTA, TiLISTA, GLISTA, LISTASS, LISTACP and LISTACPSS; ``network``, "ALISTA" or "TiLISTA", for these two, which
    have the same names; ``gain`` for GLISTA; ``lam`` for StepLISTA; ``layers`` for HyperLISTA. LISTA's
    ``weights="bf16"`` is set afterwards. The copied idiom is taken to run ``max_iter`` + 1 shrinkages, or one if
    ``max_iter`` is 1, as its copies do: check yours, and give ``layers``, the number of shrinkages, if it differs.

    Steps and thresholds may be negative, where the source computes with that: a threshold θ < 0 makes magnitudes larger
    by |θ|. The network is then a subclass of that in the table, which keeps the signs and learns the magnitudes. It is
    one native call, unless some elements pass unshrunk and a threshold is negative. Where the source lets more or fewer
    elements pass than the network of ``nn`` does for these percentages, it is such a subclass too. na-alista lets
    the largest pass whether or not they exceed θ, and ALISTA-AT has a threshold for each element and sample: their
    subclasses go layer by layer. The state dict of such a subclass does not load: load its source again.

    Of the pair that sparse-representation returns, here is the code, not the reconstruction. Where magnitudes are
    equal, what passes may differ. Where the source shares a tensor between layers it is one parameter in several
    places; a threshold that was a constant does not learn. Clamped thresholds are clamped once, here. Gradients are
    those of the source, but by other parameters where those here are logarithms or products: the function is the same,
    its training not to the digit.

    Args:
        mapping: a state dict of tensors or NumPy arrays; or the path of an ``.npz`` file, or of one that ``torch.load``
            reads with ``weights_only=True``.
        A: (m, n), where the mapping does not hold it.
        options: see above. ``theta``: the constant threshold. ``layers``, ``max_iter``: how deep it was.
            ``lam``: λ of adopty and StepLISTA, ``lambd`` of AdaLISTA. ``W``: (m, n), such as
            :func:`fastunroll.nn.analytic_weights` (A). ``p``: how many pass in each layer, as na-alista had it.
            ``selection``: percentages (more in each layer, at most), None for none. ``shrinkage``: ``"soft"`` or
            ``"bernoulli-gaussian"``. ``network``: ``"ALISTA"`` or ``"ALISTA-AT"`` of na-alista, ``"Ada-LISTA"``.
            ``of_y``: ``"Wx"`` or ``"Wz"``, the matrix that multiplies y. ``gain``: as GLISTA had it.

    Raises:
        TypeError: ``mapping`` is not one; a tensor is not floating point; or an option that its convention has not.
        OSError: the file cannot be read.
        ValueError: the file holds something else; names that no convention has; missing layers; shapes that do not
            fit; values that are not finite; something to be given is not; or no network here computes the same.

    Example::

        net = fu.convert.load_lista(torch.load("lista.pt"), theta=0.1 / L, max_iter=30)
        net = fu.convert.load_lista("LAMP_bg_giid.npz", A, shrinkage="bernoulli-gaussian")
    """
    if not isinstance(mapping, (str, os.PathLike)):
        return _loaded(mapping, A, options)
    try:
        return _loaded(mapping, A, options)
    except TypeError as error:
        raise TypeError(_of_file(mapping, error)) from None
    except ValueError as error:
        raise ValueError(_of_file(mapping, error)) from None


def _of_file(path: str | os.PathLike[str], error: Exception) -> str:
    """The message of an error, with the name of the file in it."""
    name, said = os.fspath(path), str(error)
    return said if str(name) in said else f"{name}: {said}"


def _loaded(
    mapping: Mapping[str, Any] | str | os.PathLike[str], A: Tensor | None, options: dict[str, Any]
) -> UnrolledNetwork:
    convention, values = _recognised(read(mapping))
    allowed = convention.options()
    if A is not None:
        A = as_tensor("A", A)
        if "A" in allowed:
            options["A"] = A
    for name in options:
        if name not in allowed and convention not in _REFUSED:
            raise TypeError(f"{convention.name} takes {listed(allowed) or 'no options'}, got {name}")
    net = convention.load(convention.source(values, convention.name), **options)
    if A is not None and tuple(A.shape) != (net.m, net.n):
        raise ValueError(
            f"A is {_checks.shape_text(A.shape)}, but the mapping holds a network of m = {net.m} and n = {net.n}"
        )
    for name, t in net.state_dict().items():
        if not is_finite(name, t):
            raise ValueError(f"{name} overflows {t.dtype} where it is converted: scale the weights down")
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
        "the mapping holds no network that is known, of fastunroll, the copied idiom, HyperLISTA, na-alista, adopty, "
        "AdaLISTA, sparse-representation, onsager_deep_learning or LISTA-CPSS: compare its names with those that "
        f"help(fastunroll.convert.load_lista) lists; found {listed(values) or 'nothing'}"
    )

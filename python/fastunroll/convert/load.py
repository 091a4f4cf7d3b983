"""Recognises a network by the names of its tensors, and loads it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .. import _checks
from ..arrays import takes_arrays
from ..nn import UnrolledNetwork
from . import adopty, alista, own, pytorch, tensorflow
from .source import Source, as_tensor, is_finite, listed, pattern, read


@dataclass(frozen=True)
class Convention:
    """The names that a package gives to the tensors of a network, and the function that loads the network.

    Attributes:
        name: the name of the network in messages.
        required: templates of names that must occur, such as "theta.{k}".
        load: the function that makes the network from a :class:`Source` and options.
        optional: templates of names that may occur.
        source: the class that reads the tensors.
    """

    name: str
    required: tuple[str, ...]
    load: Callable[..., UnrolledNetwork]
    optional: tuple[str, ...] = ()
    source: type[Source] = Source

    def matches(self, names: list[str]) -> bool:
        def occurs(template: str) -> bool:
            return any(pattern(template).fullmatch(name) for name in names)

        known = [pattern(template) for template in (*self.required, *self.optional)]
        return (
            bool(names)
            and all(map(occurs, self.required))
            and all(any(p.fullmatch(name) for p in known) for name in names)
        )

    def options(self) -> list[str]:
        return [name for name in inspect.signature(self.load).parameters if name != "source"]


def _unsupported(name: str, why: str, *required: str, optional: tuple[str, ...] = ()) -> Convention:
    """Returns a convention whose network fastunroll cannot compute. Loading raises ValueError with the reason."""

    def load(source: Source, **_: object) -> UnrolledNetwork:
        raise ValueError(f"{name} cannot be converted: {why}")

    return Convention(name, required, load, optional)


def _own(name: str, load: Callable[..., UnrolledNetwork], *required: str, optional: tuple[str, ...] = ()) -> Convention:
    """Returns the convention of a network of ``fastunroll.nn``."""
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
    Convention("the _W/_S LISTA", ("_W.weight", "_S.weight"), pytorch.load_copied, ("thr",)),
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
_UNSUPPORTED = (
    _unsupported(
        "NA-ALISTA", "its steps and thresholds come from an LSTM, which no network of fastunroll has", "regressor.{*}"
    ),
    _unsupported(
        "AGLISTA", "its gain multiplies x in the residual only, and the gain of GLISTA multiplies x everywhere",
        "gamma.{k}", "theta.{k}", "a.{k}", "v.{k}", "vu.{k}", "theta_initial.{k}",
    ),
    _unsupported(
        "a network that load_lista has made", "its state dict lacks a part of the network, so load its source again",
        "theta_sign", "step_sign", optional=("{*}",),
    ),
)  # fmt: skip


@takes_arrays("mapping")
def load_lista(
    mapping: Mapping[str, Any] | str | os.PathLike[str], A: Tensor | None = None, **options: Any
) -> UnrolledNetwork:
    """Returns the fastunroll network that computes the same function as the saved weights of another network.

    The names of the tensors tell which network it is. In the table, {k} stands for the number of a layer. Samples are
    rows in fastunroll, even if they are columns in the source. A prefix of all names (such as ``module.``) is dropped.
    A checkpoint may hold other entries beside its ``state_dict``; they are ignored.

    ============================================ =========================== ===============================
    names                                        source; network             options that must be given
    ============================================ =========================== ===============================
    W1.{k}, W2.{k}, theta.{k}                    ``nn.LISTA``
    names of any other network of ``nn``         that network                see below
    _W.weight, _S.weight                         the copied LISTA; LISTA     ``theta``; ``max_iter`` or ``layers``
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

    An option that decides the computed function must be given, because ``load_lista`` never guesses it. A state dict of
    ``nn`` needs the option ``selection`` for ALISTA, TiLISTA, GLISTA, LISTASS, LISTACP and LISTACPSS; ``network`` for
    ALISTA and TiLISTA, which have the same names; ``gain`` for GLISTA; ``lam`` for StepLISTA; and ``layers`` for
    HyperLISTA. Set ``weights="bf16"`` of LISTA after loading. The widely copied LISTA (_W and _S) usually runs
    ``max_iter`` + 1 shrinkages, or 1 shrinkage if ``max_iter`` is 1. If your copy runs another number of shrinkages,
    give ``layers``.

    Some sources compute with negative steps and thresholds. A threshold θ < 0 increases magnitudes by |θ|. The result
    is then a subclass of the network in the table, which stores the signs and learns the magnitudes. It runs in one
    native call, unless it selects a support and has a negative threshold. The result is also a subclass if the source
    selects larger or smaller supports than the network of ``nn`` for the same percentages. na-alista does not shrink
    the largest elements even if they are smaller than θ, and ALISTA-AT has a threshold for each element and sample.
    Their subclasses run layer by layer. The state dict of a subclass cannot be loaded, so load its source again.

    sparse-representation returns a code and a reconstruction. The converted network returns the code only. Elements of
    equal magnitude may be selected differently. A tensor that layers of the source share is one shared parameter. A
    constant threshold of the source does not learn. Thresholds that the source clamps are clamped once, at loading.
    If the parameters of fastunroll are logarithms or products of the source's tensors, the networks compute the same
    function, but train differently.

    Args:
        mapping: a state dict of tensors or NumPy arrays; or the path of an ``.npz`` file, or of a file that
            ``torch.load`` reads with ``weights_only=True``.
        A: the matrix (m, n), if the mapping does not hold it.
        options: the options in the table. ``theta`` is the constant threshold. ``layers`` and ``max_iter`` give the
            depth. ``lam`` is λ of adopty and StepLISTA, and ``lambd`` of AdaLISTA. ``W`` is a matrix (m, n), such as
            :func:`fastunroll.nn.analytic_weights` (A). ``p`` is the support size of na-alista. ``selection`` is a pair
            of percentages (growth per layer, maximum), or None if all elements are shrunk. ``shrinkage`` is ``"soft"``
            or ``"bernoulli-gaussian"``. ``network`` is ``"ALISTA"`` or ``"ALISTA-AT"`` for na-alista, ``"ALISTA"`` or
            ``"TiLISTA"`` for ``nn``, and ``"Ada-LISTA"`` for Ada-LISTA. ``of_y`` is the name of the matrix that
            multiplies y, ``"Wx"`` or ``"Wz"``. ``gain`` is the gain of GLISTA.

    Raises:
        TypeError: ``mapping`` is neither a mapping nor a path; a tensor is not floating point; or the source does not
            have an option.
        OSError: the file cannot be read.
        ValueError: the file does not hold weights; the names are unknown; a layer is missing; shapes do not fit; a
            value is not finite; a required option is missing; or no network of fastunroll computes the same function.

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
    """Returns the message of an error, with the name of the file."""
    name, message = os.fspath(path), str(error)
    return message if str(name) in message else f"{name}: {message}"


def _loaded(
    mapping: Mapping[str, Any] | str | os.PathLike[str], A: Tensor | None, options: dict[str, Any]
) -> UnrolledNetwork:
    convention, values = _recognise(read(mapping))
    allowed = convention.options()
    if A is not None:
        A = as_tensor("A", A)
        if "A" in allowed:
            options["A"] = A
    for name in options:
        if name not in allowed and convention not in _UNSUPPORTED:
            raise TypeError(f"{convention.name} takes {listed(allowed) or 'no options'}, got {name}")
    net = convention.load(convention.source(values, convention.name), **options)
    if A is not None and tuple(A.shape) != (net.m, net.n):
        raise ValueError(
            f"A is {_checks.shape_text(A.shape)}, but the mapping holds a network of m = {net.m} and n = {net.n}"
        )
    for name, t in net.state_dict().items():
        if not is_finite(name, t):
            raise ValueError(f"{name} must be finite, but it overflows {t.dtype} in the conversion: scale weights down")
    return net


def _recognise(values: dict[str, Any]) -> tuple[Convention, dict[str, Any]]:
    """Returns the convention that the names follow, and the values by their names without prefix."""
    prefix = ""
    while all(name.startswith(prefix) for name in values):
        short = {name[len(prefix) :]: value for name, value in values.items()}
        for convention in (*CONVENTIONS, *_UNSUPPORTED):
            if convention.matches([*short]):
                return convention, short
        first = next(iter(short), "")
        ends = [first.index(mark) for mark in "./" if mark in first]
        if not ends:
            break
        prefix += first[: min(ends) + 1]
    raise ValueError(
        "the names of the mapping must be those of a network that help(fastunroll.convert.load_lista) lists, got "
        f"{listed(values) or 'no names'}: rename the tensors, or build the network with fastunroll.nn"
    )

"""What happens to a module between two calls."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from .draw import Draw
from .tensors import CLOTHES, place

SINGLE_AND_DOUBLE = (torch.float32, torch.float64)  # what PyTorch's own parametrizations are for


def convert(net: nn.Module, dtype: torch.dtype) -> None:
    """In its precision; real parameters of complex networks stay real."""
    real = dtype.to_real()
    with torch.no_grad():
        net._apply(
            lambda t: (
                t.to(real.to_complex() if t.is_complex() else real) if real.itemsize > 2 or not t.is_complex() else t
            )
        )


def _matrices(net: nn.Module) -> list[Tensor]:
    return [p for p in net.parameters() if p.dim() == 2]


def _any(d: Draw, net: nn.Module) -> Tensor:
    """A parameter, or a buffer where there is none."""
    return d.random.choice([*net.parameters()] or [*net.buffers()])


def _run_once(d: Draw, net: Any, y: Tensor) -> None:
    with torch.no_grad():
        net(y)


def _run_recorded(d: Draw, net: Any, y: Tensor) -> None:
    out = net(y)
    if out.requires_grad:
        (out.abs().sum()).backward()


def _in_place(d: Draw, net: nn.Module, y: Tensor) -> None:
    with torch.no_grad():
        _any(d, net).mul_(0.9)


def _element(d: Draw, net: nn.Module, y: Tensor) -> None:
    with torch.no_grad():
        p = _any(d, net)
        p[place(d, p)] += 0.05


def _data_whole(d: Draw, net: nn.Module, y: Tensor) -> None:
    _any(d, net).data.mul_(0.9)


def _quarter(d: Draw, size: int) -> slice:
    """At least a quarter, side by side: fewer rows or columns may go unnoticed, as the documentation says."""
    return slice(d.random.randrange(size - (size + 3) // 4 + 1), None)


def _data_columns(d: Draw, net: nn.Module, y: Tensor) -> None:
    for p in _matrices(net)[:1]:
        p.data[:, _quarter(d, p.shape[1])] *= 0.9


def _data_rows(d: Draw, net: nn.Module, y: Tensor) -> None:
    for p in _matrices(net)[:1]:
        p.data[_quarter(d, p.shape[0])] *= 0.9


def _through_numpy(d: Draw, net: nn.Module, y: Tensor) -> None:
    p = _any(d, net)
    if p.dtype != torch.bfloat16:
        p.detach().resolve_neg().resolve_conj().numpy().__imul__(0.9)


def _new_data(d: Draw, net: nn.Module, y: Tensor) -> None:
    p = _any(d, net)
    p.data = p.data * 0.9


def _other_strides(d: Draw, net: nn.Module, y: Tensor) -> None:
    p = _any(d, net)
    wear = CLOTHES[d.pick("parameter strides", [name for name in CLOTHES if name != "subclass"])]
    p.data = wear(p.data)


def _new_parameter(d: Draw, net: nn.Module, y: Tensor) -> None:
    lists = [child for child in net.modules() if isinstance(child, nn.ParameterList) and len(child)]
    if lists:
        entries = d.random.choice(lists)
        i = d.random.randrange(len(entries))
        entries[i] = nn.Parameter(entries[i].detach() * 0.9)


def _shared_parameter(d: Draw, net: nn.Module, y: Tensor) -> None:
    """Two layers share an entry."""
    lists = [child for child in net.modules() if isinstance(child, nn.ParameterList) and len(child) > 1]
    if lists:
        entries = d.random.choice(lists)
        entries[0] = entries[1]


def _optimizer(d: Draw, net: nn.Module, y: Tensor) -> None:
    if any(p.is_conj() for p in net.parameters()):  # which torch's optimisers do not take
        return
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    options: dict[str, Any] = d.pick("optimizer", [{"fused": True}, {"foreach": True}, {"foreach": False}])
    if any(p.dtype not in SINGLE_AND_DOUBLE or p.is_neg() for p in net.parameters()):
        options = {}
    torch.optim.Adam(net.parameters(), lr=0.01, **options).step()
    net.zero_grad()


def _state_dict(d: Draw, net: nn.Module, y: Tensor) -> None:
    learned = dict(net.named_parameters())
    net.load_state_dict({k: v * 0.95 if k in learned else v for k, v in net.state_dict().items()})


def _saved(d: Draw, net: nn.Module, y: Tensor) -> None:
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    with torch.no_grad():
        for p in net.parameters():
            p.zero_()
    net.load_state_dict(torch.load(buffer, weights_only=True), assign=d.chance("assign", 0.3))


def _there_and_back(d: Draw, net: nn.Module, y: Tensor) -> None:
    real = y.dtype.to_real()
    if real == torch.float64 and type(net).__name__ in ("ADMMNet", "HyperLISTA", "LVAMP"):
        return  # what was computed from A, and A, are rounded: they do not fit each other to the last bit any more
    convert(net, torch.float32 if real == torch.float64 else torch.float64)
    if d.chance("a call in between", 0.5):
        with torch.no_grad():
            other = torch.float32 if real == torch.float64 else torch.float64
            if getattr(net, "weights", "full") == "full":
                net(y.to(other.to_complex() if y.is_complex() else other))
    convert(net, real)


def _frozen(d: Draw, net: nn.Module, y: Tensor) -> None:
    for p in net.parameters():
        p.requires_grad_(d.random.random() < 0.6)


def _parametrized(d: Draw, net: nn.Module, y: Tensor) -> None:
    lists = [child for child in net.modules() if isinstance(child, nn.ParameterList) and len(child)]
    lists = [entries for entries in lists if entries[0].dim() == 2 and entries[0].dtype in SINGLE_AND_DOUBLE]
    if lists:
        if getattr(net, "weights", "full") == "bf16":  # a last bit of what is computed decides how it is rounded
            net.weights = "full"
        entries = d.random.choice(lists)
        kinds = ["weight_norm", "spectral_norm", "orthogonal"]
        i = str(d.random.randrange(len(entries)))
        if not nn.utils.parametrize.is_parametrized(entries, i):
            getattr(parametrizations, d.pick("parametrization", kinds))(entries, i)
        net.eval()  # spectral_norm moves in training


def _pruned(d: Draw, net: nn.Module, y: Tensor) -> None:
    lists = [child for child in net.modules() if isinstance(child, nn.ParameterList) and len(child)]
    lists = [entries for entries in lists if entries[0].dim() == 2 and entries[0].dtype in SINGLE_AND_DOUBLE]
    lists = [entries for entries in lists if not nn.utils.parametrize.is_parametrized(entries)]
    lists = [entries for entries in lists if entries[0].is_contiguous()]  # PyTorch prunes no others
    if lists:
        entries = d.random.choice(lists)
        prune.random_unstructured(entries, "0", amount=0.5)
        prune.remove(entries, "0")  # which registers the entry anew, behind the others


EVENTS: dict[str, Callable[[Draw, Any, Tensor], None]] = {
    "call": _run_once, "recorded call": _run_recorded, "in place": _in_place, "element": _element,
    "data whole": _data_whole, "data columns": _data_columns, "data rows": _data_rows, "numpy": _through_numpy,
    "new data": _new_data, "other strides": _other_strides, "new parameter": _new_parameter,
    "shared parameter": _shared_parameter, "optimizer": _optimizer, "load_state_dict": _state_dict,
    "saved": _saved, "there and back": _there_and_back, "frozen": _frozen, "parametrized": _parametrized,
    "pruned": _pruned,
}  # fmt: skip
COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
}

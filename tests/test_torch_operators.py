"""Every operator that the package registers with PyTorch, by example: what PyTorch asks of one, and wrong tensors."""

from __future__ import annotations

import pytest
import torch
from fastunroll.ops import AdaptiveSpec, NetworkSpec
from fastunroll.ops.network_call import encode
from torch import Tensor

NOWHERE = [*[[0] * 4] * 3, False]  # the margins of a picture, what is around it, and what is copied
OPERATORS = {
    "soft_threshold": lambda: (torch.randn(3, 5), torch.rand(5), 3, 5, 1),
    "soft_threshold_backward": lambda: (torch.randn(3, 5), torch.randn(3, 5), torch.rand(5), 3, 5, 1),
    "product": lambda: (torch.randn(3, 5), torch.randn(4, 5), False, torch.randn(3, 4)),
    "outer": lambda: (torch.randn(3, 5), torch.randn(3, 4)),
    "proximal_gradient": lambda: (
        torch.randn(4, 6), torch.randn(3, 4), torch.rand(3, 1), 0.1, 5, 2, True, True, False, 1e-3,
        torch.randn(3, 6), torch.full((3,), torch.inf), torch.zeros(3, dtype=torch.int64), torch.zeros(3, 6),
        torch.zeros(3, 6), torch.tensor([[1.0, 0.0, torch.inf]] * 3, dtype=torch.float64),
    ),
    "sample_layers": lambda: (
        torch.randn(3, 4, 6), torch.randn(3, 4), torch.randn(3, 6), torch.rand(2), torch.rand(2, 6), torch.rand(2),
        "soft", 2, True,
    ),
    "sample_layers_backward": lambda: (
        torch.randn(2, 3, 6), torch.randn(3, 4, 6), torch.randn(3, 4), None, torch.rand(2), torch.rand(2, 1), None,
        "nonnegative", torch.randn(2, 3, 6), torch.randn(2, 3, 4), [True, True, False, True, True, False],
    ),
    "picture_layers": lambda: (
        torch.randn(2, 5, 6), torch.randn(2, 5, 6), torch.randn(2, 5, 6), torch.rand(5, 4), None, torch.rand(3),
        torch.rand(3), torch.rand(3, 1), None, "fourier", "solve", "admm", "total_variation", 0.0, 0.0, 2, [], 0, [], 0,
        *NOWHERE, 1.0, 2, 1, True,
    ),
    "picture_layers, relaxed": lambda: (
        torch.randn(2, 5, 6), None, torch.randn(2, 5, 6), torch.rand(5, 6), None, torch.rand(3), torch.rand(3),
        torch.rand(3, 1), None, "weights", "gradient", "admm", "soft", 0.0, 0.0, 0, [], 0, [], 0, *NOWHERE, 1.6, 2,
        0, True,
    ),
    "picture_layers, primal_dual": lambda: (
        torch.randn(2, 5, 6), torch.randn(2, 5, 6), None, torch.rand(5, 4), None, torch.rand(3), torch.rand(3),
        torch.rand(3, 2), None, "fourier", "gradient", "primal_dual", "soft", 0.0, 0.0, 0, [], 0, [], 0, *NOWHERE,
        1.0, 2, 0, True,
    ),
    "picture_layers, continued": lambda: (
        torch.randn(2, 5, 6), None, None, torch.randn(8, 6, dtype=torch.complex64), None, torch.rand(3), torch.rand(3),
        None, None, "downsample", "gradient", "proximal_gradient", "soft", 0.0, 0.0, 0, [], 0, [], 1, [1, 2, 2, 2],
        [1, 2, 2, 2], [1, 0, 1, 2], True, 1.0, 2, 1, False,
    ),
    "picture_layers, margins of a larger grid": lambda: (
        torch.randn(2, 5, 7), None, None, torch.randn(6, 5, dtype=torch.complex64), None, torch.rand(3), torch.rand(3),
        None, None, "downsample", "gradient", "proximal_gradient", "soft", 0.0, 0.0, 0, [], 0, [], 2, [1, 1, 1, 3],
        [0, 0, 1, 1], [0] * 4, False, 1.0, 2, 1, False,
    ),
    "picture_layers_backward": lambda: (
        torch.randn(1, 2, 5, 6), torch.randn(2, 5, 6), torch.randn(2, 5, 6), None, torch.randn(2, 5, 6),
        torch.rand(2, 5, 6), None, torch.rand(3), torch.rand(3, 2), torch.rand(3, 1), torch.randn(3, 2, 3, 3),
        "weights", "gradient", "admm", "filter_bank", 0.0, 1.0, 0, [], 0, [], 0, *NOWHERE, 1.0,
        torch.randn(1, 3, 3, 5, 6),
        [True, False, True, True, True, True, True],
    ),
    "wavelet_transform": lambda: (torch.randn(2, 4, 6), [0.5, 0.5], 1, False),
    "wavelet_transform, adjoint": lambda: (torch.randn(3, 2, 4, 8), [0.1, 0.2, 0.3, 0.4], 2, True),
    "network": lambda: (
        torch.randn(3, 4), torch.randn(3, 6), None,
        [torch.randn(4, 6), torch.randn(4, 6), torch.rand(3), torch.rand(2)],
        encode(NetworkSpec(2, "gradient", "amp", "soft", 2, (1, 0)), [1, 1, 0, 1, 1, 0]), True, True, True,
    ),
    "network, glista": lambda: (
        torch.randn(3, 4), torch.randn(3, 6), None, [torch.randn(4, 6), torch.randn(4, 6), torch.rand(2, 4)],
        encode(AdaptiveSpec(2, "glista", support_sizes=(1, 2)), [1, 1, 1]), True, True, False,
    ),
    "network_backward": lambda: (
        torch.randn(3, 5), torch.randn(3, 5), torch.randn(3, 4), torch.randn(3, 5), None,
        [torch.randn(5, 4), torch.randn(5, 5), torch.rand(5), torch.rand(()), torch.rand(())], torch.randn(2, 3, 5),
        torch.randn(2, 3, 0), torch.zeros(2, 3, 0, dtype=torch.uint8),
        encode(NetworkSpec(2, scheme="fista"), [1, 1, 0, 1, 0, 2]),
        [True, True, False, True, True, False, True, False, True],
    ),
    "network_backward, glista": lambda: (
        torch.randn(3, 6), None, torch.randn(3, 4), torch.randn(3, 6), None,
        [torch.randn(4, 6), torch.randn(4, 6), torch.rand(2, 4)], torch.randn(2, 3, 6), torch.rand(2, 3, 16),
        torch.zeros(2, 3, 0, dtype=torch.uint8), encode(AdaptiveSpec(2, "glista", support_sizes=(1, 2)), [1, 1, 1]),
        [True, True, False, False, True, True],
    ),
}  # fmt: skip


@pytest.mark.usefixtures("_quiet_torch")
@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(name: str) -> None:
    operator = getattr(torch.ops.fastunroll, name.split(",")[0]).default
    torch.library.opcheck(operator, OPERATORS[name]())


def test_every_operator_is_checked() -> None:
    names = {name.split(",")[0] for name in OPERATORS} | {"fourier_filter", "coil_normal"}  # test_spectral.py
    assert names == {n.split("::")[1] for n in torch._C._dispatch_get_all_op_names() if "fastunroll::" in n}


MISUSED = {
    "picture_layers": lambda: (
        torch.randn(2, 5, 6), None, None, torch.rand(5, 5), None, torch.rand(3), torch.rand(3), None, None, "fourier",
        "gradient", "proximal_gradient", "soft", 0.0, 0.0, 0, [], 0, [], 0, *NOWHERE, 1.0, 1, 0, False,
    ),
    "picture_layers, relaxed": lambda: (  # of another scheme
        torch.randn(2, 5, 6), None, None, torch.rand(5, 6), None, torch.rand(3), torch.rand(3), torch.rand(3, 1), None,
        "weights", "gradient", "fista", "soft", 0.0, 0.0, 0, [], 0, [], 0, *NOWHERE, 1.6, 1, 0, False,
    ),
    "picture_layers, relaxed with a gradient": lambda: (
        torch.randn(2, 5, 6), None, None, torch.rand(5, 6), None, torch.rand(3), torch.rand(3), torch.rand(3, 1), None,
        "weights", "gradient", "admm", "soft", 0.0, 0.0, 0, [], 0, [], 0, *NOWHERE, 1.6, 1, 1, False,
    ),
    "picture_layers, primal_dual": lambda: (  # FISTA leaves no dual variable
        torch.randn(2, 5, 6), None, None, torch.rand(5, 4), None, torch.rand(3), torch.rand(3), torch.rand(3, 1), None,
        "fourier", "gradient", "fista", "soft", 0.0, 0.0, 0, [], 0, [], 0, *NOWHERE, 1.0, 1, 0, True,
    ),
    "picture_layers, continued": lambda: (  # more is copied than there is room for
        torch.randn(2, 5, 6), None, None, torch.randn(8, 6, dtype=torch.complex64), None, torch.rand(3), torch.rand(3),
        None, None, "downsample", "gradient", "proximal_gradient", "soft", 0.0, 0.0, 0, [], 0, [], 1, [1, 2, 2, 2],
        [1, 2, 2, 2], [2, 0, 1, 2], False, 1.0, 1, 0, False,
    ),
    "picture_layers, margins of a larger grid": lambda: (  # which leave five rows
        torch.randn(2, 5, 7), None, None, torch.randn(6, 5, dtype=torch.complex64), None, torch.rand(3), torch.rand(3),
        None, None, "downsample", "gradient", "proximal_gradient", "soft", 0.0, 0.0, 0, [], 0, [], 2, [1, 1, 0, 3],
        [0, 0, 1, 1], [0] * 4, False, 1.0, 1, 0, False,
    ),
    "picture_layers_backward": lambda: (
        torch.randn(3, 2, 5, 6), torch.randn(2, 5, 6), torch.randn(2, 5, 6), None, None, torch.rand(5, 6), None,
        torch.rand(3), None, None, None, "weights", "gradient", "proximal_gradient", "box", 0.0, 1.0, 0, [], 0, [], 0,
        *NOWHERE, 1.0, torch.randn(0, 3, 2, 5, 6), [True] * 3 + [False] * 4,
    ),
    "sample_layers": lambda: (
        torch.randn(3, 4, 6), torch.randn(3, 4), torch.randn(2, 6), torch.rand(2), torch.rand(2, 6), None, "soft", 2,
        True,
    ),
    "sample_layers_backward": lambda: (
        torch.randn(2, 3, 6), torch.randn(3, 4, 6), torch.randn(3, 4), None, torch.rand(2), torch.rand(2, 1), None,
        "soft", torch.randn(2, 3, 6), torch.randn(2, 3, 5), [True] * 6,
    ),
    "proximal_gradient": lambda: (
        torch.randn(4, 6), torch.randn(3, 4), torch.rand(3, 1), 0.1, 5, 2, True, True, False, 1e-3,
        torch.randn(3, 5), torch.full((3,), torch.inf), torch.zeros(3, dtype=torch.int64), None, None, None,
    ),
    "soft_threshold": lambda: (torch.randn(3, 5), torch.rand(4), 3, 5, 1),
    "soft_threshold_backward": lambda: (torch.randn(3, 5), torch.randn(3, 4), torch.rand(5), 3, 5, 1),
    "product": lambda: (torch.randn(3, 4), torch.randn(20, 40), False, None),
    "outer": lambda: (torch.randn(3, 5), torch.randn(4, 4)),
    "wavelet_transform": lambda: (torch.randn(2, 4, 6), [0.5, 0.5], 2, False),
    "wavelet_transform, adjoint": lambda: (torch.randn(3, 2, 4, 8), [0.1, 0.2, 0.3], 2, True),
    "network": lambda: (
        torch.randn(3, 4), None, None, [torch.randn(5, 4), torch.randn(5, 4), torch.rand(5)],
        encode(NetworkSpec(2), [1, 1, 0, 1, 0, 0]), True, True, True,
    ),
    "network_backward": lambda: (
        torch.randn(3, 4), None, torch.randn(3, 4), None, None,
        [torch.randn(5, 4), torch.randn(5, 5), torch.rand(5)], torch.randn(2, 3, 5), torch.randn(2, 3, 0),
        torch.zeros(2, 3, 0, dtype=torch.uint8), encode(NetworkSpec(2), [1, 1, 0, 1, 0, 0]), [True] * 9,
    ),
    "network, glista": lambda: (
        torch.randn(3, 4), None, None, [torch.randn(4, 6), torch.randn(4, 6), torch.rand(2, 3)],
        encode(AdaptiveSpec(2, "glista"), [1, 1, 1]), True, True, False,
    ),
    "network_backward, glista": lambda: (
        torch.randn(3, 6), None, torch.randn(3, 4), None, None,
        [torch.randn(4, 6), torch.randn(4, 6), torch.rand(2, 4)], torch.randn(2, 3, 6), torch.rand(2, 3, 15),
        torch.zeros(2, 3, 0, dtype=torch.uint8), encode(AdaptiveSpec(2, "glista"), [1, 1, 1]), [True] * 6,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_stay_within_their_memory(name: str) -> None:
    short = name.split(",")[0]
    operator = getattr(torch.ops.fastunroll, short)
    with pytest.raises(RuntimeError, match=f"fastunroll.{short}: the shapes or dtypes of its tensors do not fit"):
        operator(*MISUSED[name]())
    arguments = [
        [t.half() for t in a] if isinstance(a, list) and a and isinstance(a[0], Tensor) else
        a.half() if isinstance(a, Tensor) and not a.is_complex() else a for a in OPERATORS[name]()
    ]  # fmt: skip
    with pytest.raises(RuntimeError, match="do not fit"):
        operator(*arguments)

"""What is no operator, or one that does not fit: one sentence each."""

from __future__ import annotations

import fastunroll as fu
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import sigpy
import torch
from refusals import Refused, check_refused
from test_operators_convert import B, Duck, M, N, matrix
from torch import nn
from user_operators import Haar

lin, S = fu.operators, fu.solvers
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*beta state.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of other libraries
]
A32 = matrix(torch.float32)
Y = torch.ones(B, M)
BAD: dict[str, Refused] = {
    "a layer with a bias": (
        lambda: lin.as_operator(nn.Linear(3, 4)), ValueError,
        "A must be linear, but this torch.nn.Linear has a bias: make it with bias=False, and subtract the bias from y",
    ),
    "a network": (
        lambda: S.fista(nn.ReLU(), Y, 0.1), TypeError,
        "an operator must have A.adjoint(y) besides A(x), but ReLU has no adjoint: give a pair (A, adjoint)",
    ),
    "a function": (
        lambda: S.fista(torch.sin, Y, 0.1), TypeError, "an operator must have A.adjoint(y) besides A(x), but ",
    ),
    "a mask": (
        lambda: lin.as_operator(torch.ones(5) > 0), TypeError,
        "A must be floating point, got torch.bool: of a mask make an operator, such as fu.operators.Fourier(mask)",
    ),
    "one function": (
        lambda: S.fista((torch.sin,), Y, 0.1), TypeError,
        "A must be a matrix, a fu.operators.LinearOperator, an object with A(x) and A.adjoint(y), or a pair of ",
    ),
    "a list": (
        lambda: S.fista([[1.0, 2.0]], Y, 0.1), TypeError, "got list: use torch.tensor(A) for a matrix",
    ),
    "a class": (
        lambda: S.fista(Haar, Y, 0.1), TypeError, "A must be an operator, got the class Haar: call it",
    ),
    "a word": (lambda: S.fista("A", Y, 0.1), TypeError, "(A, adjoint), got str"),
    "None": (lambda: S.fista(None, Y, 0.1), TypeError, "(A, adjoint), got NoneType"),
    "a vector": (
        lambda: lin.as_operator(torch.ones(3)), ValueError,
        "A must be a matrix (m, n), got shape (3,): of a mask make an operator, such as fu.operators.Fourier(mask)",
    ),
    "whole numbers": (
        lambda: lin.as_operator(np.ones((2, 3), dtype=int)), TypeError, "A must be floating point, got torch.int64",
    ),
    "sparse whole numbers": (
        lambda: lin.as_operator(scipy.sparse.csr_array(np.eye(3, dtype=int))), TypeError,
        "A must be floating point, got int64: use A.astype(float)",
    ),
    "sparse blocks": (
        lambda: lin.as_operator(torch.eye(4).to_sparse_bsr(2)), TypeError,
        "A must be dense, or sparse in COO, CSR or CSC format, got torch.sparse_bsr",
    ),
    "the precision of a sparse matrix": (
        lambda: S.fista(A32.to_sparse_csr(), Y.double(), 0.1), TypeError,
        "all tensors must have one dtype, but A is torch.float32 and y is torch.float64",
    ),
    "the device of a sparse matrix": (
        lambda: S.fista(A32.to_sparse(), Y.to("meta"), 0.1), ValueError, "all tensors must be on one device",
    ),
    "the shape of SciPy": (
        lambda: S.fista(scipy.sparse.linalg.aslinearoperator(A32.numpy()), torch.ones(B, N), 0.1), ValueError,
        "y must have the shape (..., 7) of A.shape_out, got (3, 11)",
    ),
    "x of SigPy": (
        lambda: lin.as_operator(sigpy.linop.MatMul((N, 1), A32.numpy()))(torch.ones(B, N)), ValueError,
        "x must have the shape (..., 11, 1), got (3, 11)",
    ),
    "what SciPy returns": (
        lambda: lin.as_operator(
            scipy.sparse.linalg.LinearOperator((M, N), matvec=lambda v: v, rmatvec=lambda v: v, dtype=float)
        )(torch.ones(1, N)), ValueError, "cannot reshape array of size 11 into shape (7,)",
    ),
    "a tuple of an object": (
        lambda: S.fista((lambda x: (x, x), lambda y: y), Y, 0.1), TypeError,
        "A(x) must return a tensor, got tuple: return one of its entries",
    ),
    "the precision of an object": (
        lambda: S.fista(Duck(A32), Y.double(), 0.1), ValueError,
        "A.adjoint must take a tensor of shape (3, 7) and type torch.float64, but it raised: ",
    ),
    "the device of an object": (
        lambda: S.fista((lambda x: x.to("meta"), lambda y: y), Y, 0.1), ValueError,
        "all tensors must be on one device, but A(x) is on meta and the data on cpu",
    ),
    "SciPy without a shape": (
        lambda: Haar().to_scipy(), ValueError, "must be given, since Haar states none",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_refused(name: str) -> None:
    check_refused(BAD[name])

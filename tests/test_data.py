"""Problems to train on: what they promise of their statistics, and that they are seeded."""

from __future__ import annotations

import math
from pathlib import Path

import fastunroll as fu
import numpy as np
import pytest
import torch
from fastunroll.data import Patches, SparseRecovery, cosine_dictionary, fixed, sensing_matrix, stream


def test_sensing_matrix() -> None:
    A = sensing_matrix(30, 50, seed=3)
    torch.testing.assert_close(A.norm(dim=0), torch.ones(50))
    assert torch.equal(A, sensing_matrix(30, 50, seed=3))
    assert not torch.equal(A, sensing_matrix(30, 50, seed=4))
    s = torch.linalg.svdvals(sensing_matrix(30, 50, condition=15.0).double())
    assert float(s[0] / s[-1]) == pytest.approx(15, rel=1e-4)
    assert float(s.square().sum()) == pytest.approx(50, rel=1e-4)
    ratios = s[1:] / s[:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand(29), rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
def test_sparse_recovery(dtype: torch.dtype) -> None:
    A = torch.randn(40, 80, dtype=dtype)
    problem = SparseRecovery(A, density=0.2, snr=20)
    y, x = fixed(problem, 4000)
    assert x is not None
    assert y.shape == (4000, 40)
    assert y.dtype == x.dtype == dtype
    assert float((x != 0).double().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(x.abs().square().sum() / (x != 0).sum()) == pytest.approx(1, abs=0.03)
    signal, noise = x @ A.mT, y - x @ A.mT
    ratio = 10 * math.log10(float(signal.abs().square().sum() / noise.abs().square().sum()))
    assert ratio == pytest.approx(20, abs=0.2)
    clean = fixed(SparseRecovery(A), 5)
    assert clean.x is not None
    torch.testing.assert_close(clean.y, clean.x @ A.mT)


def test_so_many_nonzeros() -> None:
    x = fixed(SparseRecovery(torch.randn(20, 40), nonzeros=7), 50).x
    assert x is not None
    assert ((x != 0).sum(-1) == 7).all()


def test_streams_are_seeded_and_apart_from_tests() -> None:
    problem = SparseRecovery(torch.randn(20, 40), snr=30)
    a, b = stream(problem, 8, seed=1), stream(problem, 8, seed=1)
    batches = [next(a) for _ in range(3)]
    for one in batches:
        other = next(b)
        assert torch.equal(one.y, other.y)
        assert one.x is not None
        assert other.x is not None
        assert torch.equal(one.x, other.x)
    assert not torch.equal(batches[0].y, batches[1].y)
    tests = [fixed(problem, 8, seed=seed).y for seed in range(4)]
    assert torch.equal(tests[1], fixed(problem, 8, seed=1).y)
    for test in tests:
        assert all(not torch.equal(test, next(stream(problem, 8, seed=seed)).y) for seed in range(4))


def test_patches() -> None:
    rows, columns = np.mgrid[0:40, 0:60] / 60
    problem = Patches([np.sin(20 * rows) + columns, rows], side=5)
    y, x = fixed(problem, 3000)
    assert x is None
    assert y.shape == (3000, 25)
    assert y.mean(-1).abs().max() < 1e-5
    assert float(y.std()) == pytest.approx(1, abs=0.05)
    assert torch.equal(y, fixed(problem, 3000).y)
    plain = fixed(Patches([rows], side=5, contrast=None), 10).y
    torch.testing.assert_close(
        plain.reshape(10, 5, 5)[:, 1:] - plain.reshape(10, 5, 5)[:, :-1], torch.full((10, 4, 5), 1 / 60)
    )


def test_patches_of_photographs(tmp_path: Path) -> None:
    io = pytest.importorskip("skimage.io")
    io.imsave(tmp_path / "a.png", (255 * np.random.default_rng(0).random((30, 40))).astype(np.uint8))
    assert fixed(Patches(tmp_path, side=8), 4).y.shape == (4, 64)


def test_pictures_with_a_lazy_sign_are_taken_and_matrices_without_values_refused() -> None:
    picture = torch.rand(9, 9)
    wanted = fixed(Patches([picture], side=4), 3).y
    torch.testing.assert_close(fixed(Patches([torch._neg_view(-picture)], side=4), 3).y, wanted, rtol=0, atol=0)
    with pytest.raises(TypeError, match=r"images must not require a gradient.*: use images\.detach\(\)"):
        Patches([picture.clone().requires_grad_()])
    with pytest.raises(TypeError, match="A must hold values, but it is on the meta device"):
        SparseRecovery(torch.ones(2, 3, device="meta"))


def test_cosine_dictionary() -> None:
    D = cosine_dictionary(8, 16)
    assert D.shape == (64, 256)
    torch.testing.assert_close(D.norm(dim=0), torch.ones(256))
    assert D[:, 1:].sum(0).abs().max() < 1e-4
    torch.testing.assert_close(D[:, 0], torch.full((64,), 1 / 8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sensing_matrix(0, 3), "m must be a whole number ≥ 1, got 0"),
        (lambda: sensing_matrix(2, 3, condition=0.5), "condition must be a finite number ≥ 1, got 0.5"),
        (lambda: SparseRecovery(torch.ones(2, 3), density=0), "density must be in (0, 1], got 0"),
        (lambda: SparseRecovery(torch.ones(2, 3), nonzeros=4), "nonzeros must be at most n = 3, got 4"),
        (
            lambda: SparseRecovery(torch.ones(2, 3), snr=math.inf),
            "snr must be a finite number of dB, or None for no noise, got inf",
        ),
        (
            lambda: Patches([np.zeros((3, 9))], side=4),
            "images must be grey and at least 4x4 pixels, got shape (3, 9)",
        ),
        (lambda: Patches([]), "images must hold at least one picture, got none"),
        (lambda: fixed(SparseRecovery(torch.ones(2, 3)), 0), "count must be a whole number ≥ 1, got 0"),
    ],
)
def test_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # the whole message is compared
        call()  # type: ignore[operator]
    assert str(caught.value) == message


def test_a_constant_picture_has_no_contrast() -> None:
    assert fixed(Patches([np.full((9, 9), 0.5)], side=4), 3).y.abs().max() == 0


def test_amp_reaches_what_is_published() -> None:
    """Setup S of the literature, pooled NMSE at 16 iterations: −29.98, −29.21, −25.35, −17.43 dB."""
    A = sensing_matrix(250, 500)
    for snr, wanted in ((None, -29.98), (40, -29.21), (30, -25.35), (20, -17.43)):
        y, x = fixed(SparseRecovery(A, snr=snr), 1500)
        assert x is not None
        with torch.no_grad():
            found = fu.nn.LAMP(A, layers=16)(y)
        assert float(fu.losses.nmse_db(found, x)) == pytest.approx(wanted, abs=1.2)

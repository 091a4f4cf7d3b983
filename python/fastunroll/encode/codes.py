"""Reads codes from the output of ``fastunroll encode``, all at once or shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import EncodeError
from .manifest import read_manifest, shard_path
from .merge import index_dtype, joined_indptr
from .parts import folder_of, target_of
from .shard_file import PER_SAMPLE, misplaced, read_codes, read_label


@dataclass(frozen=True)
class Codes:
    """The codes of consecutive samples as a CSR matrix with one row for each sample.

    Row i has the values ``data[indptr[i]:indptr[i + 1]]`` in the columns ``indices[indptr[i]:indptr[i + 1]]``.

    Attributes:
        data: the nonzero values (nonzeros,).
        indices: their columns (nonzeros,), in ascending order in each row.
        indptr: the start of each row in ``data`` (rows + 1,).
        shape: the shape of the matrix, (rows, n).
        gap: the relative duality gaps (rows,). A sample that is not finite has no codes, and its gap is NaN.
        iterations: the number of iterations (rows,).
        converged: whether the gap is at most the tolerance (rows,).
        lam: the λ of each sample (rows,).
        first: the index of the sample in the first row.
    """

    data: NDArray[Any]
    indices: NDArray[Any]
    indptr: NDArray[Any]
    shape: tuple[int, int]
    gap: NDArray[Any]
    iterations: NDArray[Any]
    converged: NDArray[Any]
    lam: NDArray[Any]
    first: int = 0

    def to_scipy(self) -> Any:
        """Returns the codes as a ``scipy.sparse.csr_matrix`` that shares their memory.

        Raises:
            ModuleNotFoundError: scipy is not installed.
        """
        try:
            from scipy.sparse import csr_matrix
        except ModuleNotFoundError:
            raise ModuleNotFoundError("to_scipy() needs scipy: pip install scipy, or use to_torch()") from None
        return csr_matrix((self.data, self.indices, self.indptr), shape=self.shape)

    def to_torch(self) -> Tensor:
        """Returns the codes as a sparse CSR tensor on the CPU."""
        indptr, indices, data = (torch.from_numpy(a) for a in (self.indptr, self.indices, self.data))
        return torch.sparse_csr_tensor(indptr, indices, data, size=self.shape, check_invariants=True)

    def __repr__(self) -> str:
        return f"Codes({self.shape[0]} samples from {self.first}, {self.shape[1]} columns, {len(self.data)} nonzeros)"


def _read(path: Path, first: int = 0) -> Codes:
    found = read_codes(path)
    rows, columns = found.pop("shape").tolist()
    return Codes(shape=(rows, columns), first=first, **found)


def _is_one_file(path: Path) -> bool:
    """Returns whether the path exists and is not a folder. It does not check the content."""
    return target_of(path).exists() and not path.is_dir()


def shards(path: Path | str) -> Iterator[Codes]:
    """Yields the codes that ``fastunroll encode --shards`` has written, shard by shard and in order.

    Args:
        path: the output of ``fastunroll encode``, or its folder of shards. A merged file counts as a single shard.

    Raises:
        EncodeError: a shard is missing, damaged or in the place of another shard, or there are no shards.
    """
    path = Path(path)
    if _is_one_file(path):
        yield _read(path)
        return
    folder = path if path.is_dir() else folder_of(path)
    manifest = read_manifest(folder)
    if manifest is None:
        what = "is a folder without a job file" if path.is_dir() else f"does not exist, nor do shards of it in {folder}"
        raise EncodeError(f"{path} {what}: give the output of fastunroll encode, or its folder of shards")
    for index in range(manifest.shards):
        file = shard_path(folder, index)
        if not file.exists():
            raise EncodeError(
                f"{folder} is incomplete, {file.name} is missing: run the same command again to finish it"
            )
        reason = misplaced(file, read_label(file), manifest, index)
        if reason:
            raise EncodeError(reason)
        yield _read(file, manifest.bounds(index)[0])


def load(path: Path | str) -> Codes:
    """Loads all codes that ``fastunroll encode`` has written into memory.

    Args:
        path: the output of ``fastunroll encode``, or its folder of shards.

    Raises:
        EncodeError: the output is missing, incomplete or damaged.
    """
    if _is_one_file(Path(path)):
        return _read(Path(path))
    parts = list(shards(path))
    if not parts:
        raise EncodeError(f"{path} has no shards because it has no samples: run without --shards for an empty matrix")
    rows, columns = sum(part.shape[0] for part in parts), parts[0].shape[1]
    index = index_dtype(sum(len(part.data) for part in parts), columns)
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in ("data", *PER_SAMPLE)
    }
    indices = np.concatenate([part.indices for part in parts]).astype(index, copy=False)
    indptr = np.concatenate([*joined_indptr((part.indptr for part in parts), index)])
    return Codes(indices=indices, indptr=indptr, shape=(rows, columns), **joined)

"""A job: the files and options of an encoding, checked once, with checksums that identify the same job later."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .._checks import shape_text
from ..solvers import Lasso, LassoResult
from ..warn import no_convergence_warnings
from .array_file import ArrayFile, converted, usable, usable_text
from .errors import EncodeError

# A block is solved at once. The checksum of a shard depends on both sizes, so other sizes need another VERSION.
BLOCK_BYTES = 1 << 24  # largest size of the dense x of a block
BLOCK = 1024  # largest number of samples in a block


def number(check: Callable[[str, Any], Any], name: str, value: Any, hint: str = "") -> Any:
    """Returns a plain Python number, which JSON can store, after one of the checks of ``_checks``."""
    try:
        return check(name, value)
    except TypeError as error:
        raise EncodeError(str(error)) from None
    except ValueError as error:
        raise EncodeError(f"{error}{hint}") from None


@dataclass(frozen=True)
class Options:
    """The options that change the result. Exactly one of ``lam``, ``relative_lam`` and ``lam_file`` is given."""

    lam: float | None
    relative_lam: float | None
    lam_file: Path | str | None
    tol: float
    max_iter: int
    nonnegative: bool
    ridge: float
    weights: Path | str | None
    dtype: str | None
    transpose_dictionary: bool

    def checked(self) -> Options:
        """Returns the options as plain Python numbers, after a check of their ranges."""
        given = [v is not None for v in (self.lam, self.relative_lam, self.lam_file)]
        if sum(given) != 1:
            raise EncodeError(f"exactly one of lam, relative lam and lam file must be given, got {sum(given)}")
        if self.dtype not in (None, "float32", "float64"):
            raise EncodeError(f"dtype must be float32 or float64, got {self.dtype}")
        lam, relative_lam = self.lam, self.relative_lam
        if lam is not None:
            hint = ": with lam = 0 this is least squares, which numpy.linalg.lstsq solves"
            lam = number(_checks.positive, "lam", lam, hint if isinstance(lam, (int, float)) and lam == 0 else "")
        if relative_lam is not None:
            hint = ": it is a fraction, between 0 and 1, of the smallest λ for which all codes are zero"
            relative_lam = number(_checks.positive, "relative lam", relative_lam, hint)
            if relative_lam >= 1:
                raise EncodeError(f"relative lam must be below 1, got {relative_lam:g}{hint}")
        return replace(
            self,
            lam=lam,
            relative_lam=relative_lam,
            tol=number(_checks.positive, "tol", self.tol),
            max_iter=number(_checks.count, "max_iter", self.max_iter),
            nonnegative=number(_checks.flag, "nonnegative", self.nonnegative),
            transpose_dictionary=number(_checks.flag, "transpose_dictionary", self.transpose_dictionary),
            ridge=number(_checks.not_negative, "ridge", self.ridge),
        )


class Job:
    """The samples, the dictionary and the options of an encoding.

    Raises:
        EncodeError: a file cannot be used, shapes do not fit, or an option is out of range.
    """

    def __init__(self, dictionary: Path, samples: Path, options: Options) -> None:
        self.options = options = options.checked()
        with ExitStack() as files:
            self._open(dictionary, samples, options, files)
            self._files = files.pop_all()

    def _open(self, dictionary: Path, samples: Path, options: Options, files: ExitStack) -> None:
        self.files: list[ArrayFile] = []

        def opened(path: Path | str, role: str) -> ArrayFile:
            file = files.enter_context(closing(ArrayFile(Path(path), role)))
            self.files.append(file)
            return file

        self._samples = opened(samples, "input")
        a_file = opened(dictionary, "dictionary")
        self.dtype = _dtype(options, a_file)
        A = _read_dictionary(a_file, self._samples, options.transpose_dictionary, self.dtype)
        self.m, self.n = A.shape
        self.count = self._samples.shape[0]
        weights = None
        if options.weights is not None:
            w_file = opened(options.weights, "file of weights")
            weights = _positive(w_file, self.n, "column of A", self.dtype).values(self.dtype)
        try:
            self._solver = Lasso(A, weights=weights, nonnegative=options.nonnegative, ridge=options.ridge)
        except (TypeError, ValueError) as error:
            raise EncodeError(f"the dictionary {dictionary} cannot be used: {error}") from None
        if options.lam is not None and not usable(converted(np.array(options.lam), self.dtype)):
            single = self.dtype == np.float32
            fix = "use --dtype float64" if single else "multiply the samples and lam by the same number"
            raise EncodeError(f"lam must be {usable_text(self.dtype)}, got {options.lam:g}: {fix}")
        self._lams = None
        if options.lam_file is not None:
            self._lams = _positive(opened(options.lam_file, "lam file"), self.count, "sample", self.dtype)
        self.block = max(1, min(BLOCK, BLOCK_BYTES // (self.n * self.dtype.itemsize)))
        self.settings: dict[str, Any] = {
            "samples": list(self._samples.shape),
            "dtype of the input": str(self._samples.dtype),
            "content of the input": self._samples.sampled_digest(),
            "time of the input's last change": self._samples.modified,
            "shape of the dictionary": [self.m, self.n],
            "content of the dictionary": hashlib.sha256(A.tobytes()).hexdigest(),
            "dtype": str(self.dtype),
            "lam": options.lam,
            "relative lam": options.relative_lam,
            "content of the lam file": None if self._lams is None else self._lams.digest(),
            "content of the weights": None if weights is None else hashlib.sha256(weights.tobytes()).hexdigest(),
            "ridge": options.ridge,
            "nonnegative": options.nonnegative,
            "tol": options.tol,
            "max iter": options.max_iter,
        }

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, list[NDArray[Any]]]]:
        """Yields the data of a range of samples, block by block.

        Each item is the number of samples and the arrays of the files: y, and λ if there is a lam file.
        """
        files = [self._samples] if self._lams is None else [self._samples, self._lams]
        for begin in range(start, stop, self.block):
            end = min(begin + self.block, stop)
            yield end - begin, [file.rows(begin, end) for file in files]

    def content(self, start: int, stop: int) -> str:
        """Returns a checksum of the data that the files hold now for a range of samples."""
        checksum = hashlib.sha256()
        for _, arrays in self.blocks(start, stop):
            for array in arrays:
                checksum.update(array.data)
        return checksum.hexdigest()

    def check_unchanged(self) -> None:
        """Checks the sizes and modification times of all files."""
        for file in self.files:
            file.check_unchanged()

    def check_content(self) -> None:
        """Reads the dictionary and the weights again, and compares them with their content at the start."""
        for file in self.files:
            file.check_content()

    def changed(self, first: int, last: int) -> EncodeError:
        """Returns the exception for rows of the input, or their λ, that have changed since they were solved."""
        or_lam = "" if self._lams is None else f", or the numbers {first} to {last} of {self._lams.path},"
        return self._samples.changed(f"rows {first} to {last}{or_lam} have changed since they were solved")

    def solve(self, arrays: list[NDArray[Any]]) -> tuple[LassoResult, NDArray[Any]]:
        """Solves the samples of a block, and returns their λ too. The x of a sample is NaN if its y is not finite."""
        y = converted(arrays[0], self.dtype)
        lam = converted(arrays[1], self.dtype) if len(arrays) == 2 else self._lam(y)
        with no_convergence_warnings():
            return self._solver.solve(y, lam, tol=self.options.tol, max_iter=self.options.max_iter), lam

    def _lam(self, y: NDArray[Any]) -> NDArray[Any]:
        if self.options.lam is not None:
            return np.full(len(y), self.options.lam, self.dtype)
        assert self.options.relative_lam is not None
        largest = self._solver.lambda_max(y)
        lam = np.maximum(self.options.relative_lam * largest, np.finfo(self.dtype).tiny)  # λ must be a normal number
        # If y = 0, the code is 0 for any λ. If y is not finite, there is no code.
        lam[~(np.isfinite(largest) & (largest > 0))] = 1
        return lam

    def close(self) -> None:
        self._files.close()


def _dtype(options: Options, dictionary: ArrayFile) -> np.dtype[Any]:
    if options.dtype is not None:
        return np.dtype(options.dtype)
    if dictionary.dtype.newbyteorder("=") not in (np.float32, np.float64):
        raise EncodeError(
            f"the dictionary {dictionary.path} must be float32 or float64, got {dictionary.dtype}: give --dtype "
            "float32 or float64 to convert it"
        )
    return dictionary.dtype.newbyteorder("=")


def _read_dictionary(dictionary: ArrayFile, samples: ArrayFile, transpose: bool, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns A (m, n) after a check that it fits the samples (N, m)."""
    a, y = dictionary.shape, samples.shape
    if len(a) != 2 or 0 in a:
        raise EncodeError(
            f"the dictionary {dictionary.path} must be a matrix (m, n) whose n columns are the atoms, got shape "
            f"{shape_text(a)}"
        )
    if len(y) != 2:
        size = int(np.prod(y[1:], dtype=object))
        fix = f"reshape it to {shape_text((y[0], size) if len(y) > 2 else (1, *y))} and save it again" if y else ""
        raise EncodeError(
            f"the input {samples.path} must be (samples, m), a row for each sample, got shape {shape_text(y)}"
            + (f": {fix}" if fix else "")
        )
    m, n = a[::-1] if transpose else a
    if y[1] != m:
        rule = (
            f"rows of the input {samples.path}, shape {shape_text(y)}, have {y[1]} numbers, but the dictionary "
            f"{dictionary.path} is (m, n) = {shape_text((m, n))}{', transposed' if transpose else ''}"
        )
        if y[1] == n:
            fix = (
                "leave out --transpose-dictionary" if transpose else "give --transpose-dictionary if its rows are atoms"
            )
        elif y[0] == m:
            fix = f"if its columns are the samples, save numpy.ascontiguousarray(Y.T), which has {m} numbers in a row"
        else:
            fix = f"give samples of {m} numbers"
        raise EncodeError(f"{rule}: {fix}")
    A = dictionary.values(dtype)
    return np.ascontiguousarray(A.T) if transpose else A


def _positive(file: ArrayFile, count: int, each: str, dtype: np.dtype[Any]) -> ArrayFile:
    """Returns the file after a check that it is a vector of ``count`` usable numbers."""
    if file.shape != (count,):
        raise EncodeError(
            f"the {file.role} {file.path} must hold one number for each {each}, shape ({count},), got "
            f"{shape_text(file.shape)}"
        )
    bad = file.first_unusable(dtype)
    if bad is not None:
        raise EncodeError(
            f"the {file.role} {file.path} must hold numbers that are {usable_text(dtype)}, but number {bad[0]} is "
            f"{bad[1]:g}"
        )
    return file

"""The problems of the table: the usual setup of the literature at several noise levels and condition numbers."""

from __future__ import annotations

from dataclasses import dataclass

from .. import data

LAYERS = 16
SIZE, LARGER = (250, 500), (256, 512)  # the sizes in the papers of LISTA-CPSS and ALISTA, and in that of Open-L2O


@dataclass(frozen=True)
class Setting:
    """A setting of sparse recovery.

    x has 10 % nonzeros from N(0, 1). A has columns of norm 1, or of root mean square norm 1 if it has a given condition
    number.

    Attributes:
        title: the title in tables.
        snr: the signal-to-noise ratio in dB, or None without noise.
        condition: the condition number of A, or None for a Gaussian matrix.
    """

    title: str
    snr: float | None
    condition: float | None = None

    def problem(self, size: tuple[int, int], seed: int) -> data.SparseRecovery:
        A = data.sensing_matrix(*size, seed=seed, condition=self.condition)
        return data.SparseRecovery(A, snr=self.snr)


SETTINGS = {
    "noiseless": Setting("noiseless", None),
    "snr40": Setting("SNR 40 dB", 40.0),
    "snr20": Setting("SNR 20 dB", 20.0),
    "condition15": Setting("SNR 40 dB, condition 15", 40.0, 15.0),
    "condition100": Setting("SNR 40 dB, condition 100", 40.0, 100.0),
}
USUAL = ("noiseless", "snr40", "snr20", "condition15")

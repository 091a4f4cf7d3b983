"""Published errors, as NMSE of the last layer in dB, with their sources."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """A published NMSE in dB, and its source."""

    value: float
    source: str


_L2O = "Open-L2O, Fig. 5 (256×512)"  # the value is read off a plot, ±1 dB
_NA = "na-alista, log (50 nonzeros)"
_LAMP = "Borgerding et al. 2017"

PUBLISHED: dict[tuple[str, str], Published] = {
    ("LISTA", "noiseless"): Published(-35, _L2O),
    ("LISTACP", "noiseless"): Published(-30, _L2O),
    ("LISTACPSS", "noiseless"): Published(-63, _L2O),
    ("LFISTA", "noiseless"): Published(-29, _L2O),
    ("LAMP", "noiseless"): Published(-55, _L2O),
    ("ALISTA", "noiseless"): Published(-79, _L2O),
    ("GLISTA", "noiseless"): Published(-55, _L2O),
    ("LISTA", "snr20"): Published(-18, _L2O),
    ("LISTACP", "snr20"): Published(-15, _L2O),
    ("LISTACPSS", "snr20"): Published(-20, _L2O),
    ("LFISTA", "snr20"): Published(-17, _L2O),
    ("LAMP", "snr20"): Published(-16, _L2O),
    ("ALISTA", "snr20"): Published(-21.08, _NA),
    ("GLISTA", "snr20"): Published(-22, _L2O),
    ("ALISTA", "snr40"): Published(-39.07, _NA),
    ("LAMP-BG (6 layers)", "snr40"): Published(-34.37, _LAMP),
}

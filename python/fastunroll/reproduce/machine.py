"""What a record says of the machine that made it."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from .. import __version__


def machine() -> dict[str, Any]:
    """Returns the processor, the number of threads, and the versions."""
    return {
        "processors": os.cpu_count(), "threads": torch.get_num_threads(), "processor": _processor(),
        "torch": torch.__version__, "fastunroll": __version__, "python": platform.python_version(),
    }  # fmt: skip


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()

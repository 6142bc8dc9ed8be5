"""What a table of measurements has to say about where it was made."""

import os
import platform

from onnx_relusv.measuring.provenance import versions


def machine_line() -> str:
    """One line: processor, cores, versions."""
    listed = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"{_processor()}, {os.cpu_count()} cores; {listed}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.machine()

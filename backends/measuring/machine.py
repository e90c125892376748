"""The machine that latencies are measured on."""

from __future__ import annotations

import os
import platform


def processor() -> str:
    """Return the processor's own name, as exact as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            facts = dict(line.split(":", 1) for line in lines if ":" in line)
    except OSError:
        return platform.processor() or platform.machine()
    named = {key.strip(): value.strip() for key, value in facts.items()}
    model = named.get("model name", platform.machine())
    kind = "/".join(named[key] for key in ("cpu family", "model", "stepping") if key in named)
    return f"{model} ({kind})" if kind else model


def host() -> dict[str, str]:
    """Return what latencies depend on besides the device and the runtime."""
    return {"cores": str(os.cpu_count()), "system": platform.system()}

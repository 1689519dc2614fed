"""What every benchmark prints before its numbers: where, with what and beside which load they come about."""

import os
import shlex
import sys
from importlib.metadata import version

from crfnet.pipeline.run_folder import provenance

__all__ = ["print_header"]


def print_header() -> None:
    """Command, versions, processor and load; call it when the number of threads is set."""
    load = ", ".join(f"{mean:.2f}" for mean in os.getloadavg())
    facts = provenance(shlex.join(["python", *sys.argv]))
    facts |= {"numba": version("numba"), "cores": str(os.cpu_count()), "load": f"{load} (1, 5 and 15 min)"}
    for name, value in facts.items():
        print(f"{name:<12}{value}")
    print(flush=True)

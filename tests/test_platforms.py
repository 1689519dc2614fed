"""Importing on Windows and macOS, and what is measured there."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from crfnet import memory
from crfnet.memory import peak_memory_mb

#: Imports every module of crfnet as on Windows: no POSIX-only module, no POSIX-only name, no Triton. What
#: crfnet stands on has versions of its own there, so it is imported before.
IMPORT_EVERYTHING = """
import importlib, os, pkgutil, signal, sys
import bokeh.server.server, jinja2, jsonargparse, matplotlib.figure, optuna, PIL.Image, safetensors.torch
import numba, scipy.io, scipy.ndimage, timm, torch, torchvision, tqdm, yaml
import torch.distributed.rendezvous, torch.utils.data, torch.utils.tensorboard

for name in "resource fcntl pwd grp termios tty pty syslog posix readline triton".split():
    for loaded in [key for key in sys.modules if key.partition(".")[0] == name]:
        del sys.modules[loaded]
    sys.modules[name] = None
for module, names in {
    os: "fork register_at_fork sched_getaffinity getuid geteuid getpgid killpg setsid setpgrp uname statvfs",
    signal: "SIGKILL SIGHUP SIGUSR1 SIGUSR2 SIGQUIT SIGALRM SIGPIPE SIGCHLD alarm setitimer",
}.items():
    for name in names.split():
        delattr(module, name) if hasattr(module, name) else None
sys.platform = PLATFORM

import crfnet
failed = {}
for module in pkgutil.walk_packages(crfnet.__path__, "crfnet."):
    if module.name.startswith(("crfnet.kernels.gpu.", "crfnet.__main__")):
        continue
    try:
        importlib.import_module(module.name)
    except Exception as error:
        failed[module.name] = repr(error)
assert not failed, failed
print(len([name for name in sys.modules if name.startswith("crfnet.")]))
"""


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_every_module_is_imported_without_posix_modules(platform):
    script = IMPORT_EVERYTHING.replace("PLATFORM", repr(platform))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_peak_memory_where_the_platform_does_not_tell(monkeypatch):
    assert 50 < peak_memory_mb() < 100_000
    monkeypatch.setattr(memory, "_PROC", Path("/nowhere"))
    memory.reset_peak_memory()
    assert 50 < peak_memory_mb() < 100_000
    monkeypatch.setitem(sys.modules, "resource", None)
    assert math.isnan(peak_memory_mb())

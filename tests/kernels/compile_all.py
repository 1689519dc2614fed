"""Builds every kernel for sm_80 and sm_90: a program of its own, since interpreted tests cannot.

    python tests/kernels/compile_all.py [--all]

The launches run on small CPU tensors, but in place of each kernel's start its arguments are written down:
types, constants and options. So what is built is what would be launched. Prints one JSON line per build.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends import compiler
from triton.compiler import ASTSource

from crfnet.kernels.gpu import domain_transform, exact, gather, local, update

TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
TARGETS = (80, 90)


def launches(everything):
    """Every kernel once, in the sizes of 21 classes and bilateral features; with ``everything`` many more."""
    types = (torch.float32, torch.bfloat16, torch.float16) if everything else (torch.float32,)
    for dtype in types:
        for labels in (21, 150, 1) if everything else (21,):
            yield from gathers(dtype, labels)
            yield lambda dtype=dtype, labels=labels: filters(dtype, labels, 5, 64)
            yield lambda dtype=dtype, labels=labels: recursive_filters(dtype, labels)
    yield gather_half
    yield lambda: update.mean_field_update(torch.zeros(4, 2000), torch.zeros(4, 2000), torch.zeros(4))
    if everything:
        for shape in ((21, 5, 128), (150, 5, 128), (21, 2, 32), (3, 33, 64), (40, 100, 64)):
            yield lambda shape=shape: filters(torch.float32, *shape)
        yield lambda: filters(torch.float32, 21, 5, 64, "ieee")


def gathers(dtype, labels):
    table, indices, weights = torch.zeros(9, labels, dtype=dtype), torch.zeros(200).int(), torch.zeros(200)
    for shape in ((4, 3), (2, 6)):
        yield lambda shape=shape: gather.gather_rows(
            table, indices[:12].view(shape), weights[:12].view(shape)
        )
    yield lambda: gather.gather_sum(table, indices, torch.tensor([0, 200]).int(), weights)
    yield lambda: update.mean_field_update(table, table, weights[:9])


def gather_half():
    table = torch.zeros(9, 21, dtype=torch.bfloat16)
    gather.gather_sum(table, torch.zeros(200).int(), torch.tensor([0, 200]).int(), torch.zeros(200))


def filters(dtype, labels, dimensions, size, precision="tf32x3"):
    pairs = exact.TilePairs(
        torch.zeros(2, dimensions, size),
        torch.arange(2 * size).int().view(2, size),
        torch.tensor([0, 2, 4]),
        torch.tensor([0, 1, 0, 1]).int(),
        torch.arange(2),
    )
    values = torch.zeros(1, labels, 2 * size, dtype=dtype)
    exact.filter_values(values, pairs, precision)
    exact.grad_features(values, values, pairs, precision)
    features = torch.zeros(1, dimensions, 2 * size)
    local.filter_values(values.unflatten(2, (2, size)), features.unflatten(2, (2, size)), 5)
    local.grad_features(*(x.unflatten(2, (2, size)) for x in (values, values, features)), 5)


def recursive_filters(dtype, labels):
    values = torch.zeros(1, labels, 40, 150, dtype=dtype)
    weights = torch.zeros(1, 2, 1, 40, 150, dtype=dtype)
    domain_transform.recursive_filter(values, weights)
    domain_transform.recursive_filter_gradient(values, weights, values)


def recorded(everything):
    """(kernel, signature, constants, divisible, options) of every launch, each once."""
    found = {}

    def note(kernel, *args, grid, warmup, **kwargs):
        options = {name: kwargs.pop(name) for name in list(kwargs) if name not in kernel.arg_names}
        given = {**dict(zip(kernel.arg_names, args, strict=False)), **kwargs}
        signature, constants, divisible = {}, {}, {}
        for place, parameter in enumerate(kernel.params):
            value = given[parameter.name]
            if parameter.is_constexpr:
                signature[parameter.name], constants[parameter.name] = "constexpr", value
            elif isinstance(value, torch.Tensor):
                signature[parameter.name] = TYPES[value.dtype]
                divisible[place] = 16
            else:
                signature[parameter.name] = "i32"
        key = f"{kernel.__name__} {signature} {constants} {options}"
        found[key] = kernel, signature, constants, divisible, options

    triton.runtime.jit.JITFunction.run = note
    for launch in launches(everything):
        launch()
    return found.values()


def source(kernel, signature, constants, divisible):
    """What is to be built. Triton 3.2, which torch 2.6 brings, has a class for what is divisible."""
    if hasattr(compiler, "AttrsDescriptor"):
        attributes = compiler.AttrsDescriptor.from_hints(divisible)
    else:
        attributes = {(place,): [["tt.divisibility", number]] for place, number in divisible.items()}
    return ASTSource(kernel, signature, constants, attributes)


def usage(cubin):
    """Registers and bytes of stack per thread, which is where registers are spilled to."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        said = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
    text = said.stdout + said.stderr
    return (int(re.search(rf"{word}:(\d+)", text).group(1)) for word in ("REG", "STACK"))


def main():
    for kernel, signature, constants, divisible, options in recorded("--all" in sys.argv):
        for capability in TARGETS:
            target = compiler.GPUTarget("cuda", capability, 32)
            what = source(kernel, signature, constants, divisible)
            built = triton.compile(what, target=target, options=options)
            registers, stack = usage(built.asm["cubin"])
            told = {
                "kernel": kernel.__name__,
                "target": capability,
                "registers": registers,
                "stack": stack,
                "shared": built.metadata.shared,
                "exponentials": built.asm["ptx"].count("ex2.approx"),
                "constants": constants,
            }
            sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()

"""Arithmetic of `crfnet.kernels.cpu.vectors`: lane by lane, over all lanes, and the exponential."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# intrinsics: the name is what it does

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from crfnet.kernels.cpu.vectors import LANES, constant, intrinsic

__all__ = [
    "add", "any_above", "exp", "fma", "inverse", "less", "maximum", "mul", "rint", "sub", "total",
    "total_of_products",
]  # fmt: skip


def _binary(operation: Callable[..., Any]) -> Any:
    """``f(x, y)``, lane by lane."""

    @intrinsic
    def binary(typing, x, y):
        return x(x, y), lambda context, builder, sig, args: operation(builder, args[0], args[1])

    return binary


add = _binary(lambda builder, x, y: builder.fadd(x, y))
sub = _binary(lambda builder, x, y: builder.fsub(x, y))
mul = _binary(lambda builder, x, y: builder.fmul(x, y))
maximum = _binary(lambda builder, x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))
less = _binary(lambda builder, x, y: builder.uitofp(builder.fcmp_ordered("<", x, y), x.type))  # 1 or 0


def _suffix(x) -> str:
    return "v8f32" if x.type.element == ir.FloatType() else "v8f64"


@intrinsic
def fma(typing, x, y, z):
    """``x y + z``; in one instruction where there is one."""

    def code(context, builder, sig, args):
        return _call(builder, f"llvm.fmuladd.{_suffix(args[0])}", args[0].type, *args)

    return x(x, y, z), code


@intrinsic
def rint(typing, x):
    """The nearest integers, halves to even."""

    def code(context, builder, sig, args):
        return _call(builder, f"llvm.rint.{_suffix(args[0])}", args[0].type, args[0])

    return x(x), code


def _sum(builder, x) -> ir.Instruction:
    kind = ir.FunctionType(x.type.element, [x.type.element, x.type])
    name = f"llvm.vector.reduce.fadd.{_suffix(x)}"
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [ir.Constant(x.type.element, 0.0), x], fastmath=("reassoc",))


@intrinsic
def total(typing, x):
    """The sum of all lanes."""
    return x.dtype(x), lambda context, builder, sig, args: _sum(builder, args[0])


@intrinsic
def total_of_products(typing, x, y):
    """The sum of ``x y`` over all lanes, in float64."""
    wide = ir.VectorType(ir.DoubleType(), LANES)

    def code(context, builder, sig, args):
        x, y = (arg if arg.type == wide else builder.fpext(arg, wide) for arg in args)
        return _sum(builder, builder.fmul(x, y))

    return types.float64(x, y), code


@intrinsic
def inverse(typing, x):
    """``1 / x``."""
    return x(x), lambda context, builder, sig, args: builder.fdiv(constant(args[0].type, 1.0), args[0])


@intrinsic
def any_above(typing, x, y):
    """Whether x is larger than y in some lane."""

    def code(context, builder, sig, args):
        lanes = builder.bitcast(builder.fcmp_ordered(">", args[0], args[1]), ir.IntType(LANES))
        return builder.icmp_unsigned("!=", lanes, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(x, y), code


def _call(builder, name: str, result, *values) -> ir.Instruction:
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


# 2^f for f in [0, 1): a polynomial of least largest error in float32; in float64 the series around 1/2.
_POWER_32 = (1.8775767e-3, 8.9893397e-3, 5.5826318e-2, 2.4015361e-1, 6.9315308e-1, 9.9999994e-1)
_POWER_64 = tuple(math.sqrt(2) * math.log(2) ** k / math.factorial(k) for k in range(14, -1, -1))


@intrinsic
def exp(typing, x):
    """To 2e-7 (float64: 1e-15) plus the rounding of x log2(e); x at most 88 (700); 0 far below."""
    single = x.dtype == types.float32
    bits, bias, shift = (32, 127, 23) if single else (64, 1023, 52)

    def code(context, builder, sig, args):
        kind = args[0].type
        integers = ir.VectorType(ir.IntType(bits), LANES)
        lowest = constant(kind, 1.0 - bias)
        t = builder.fmul(args[0], constant(kind, math.log2(math.e)))
        t = builder.select(builder.fcmp_ordered(">", t, lowest), t, lowest)
        n = builder.sitofp(builder.fptosi(t, integers), kind)  # llvm.floor may become eight calls
        n = builder.fsub(n, builder.uitofp(builder.fcmp_ordered(">", n, t), kind))
        f = builder.fsub(t, n)
        if not single:
            f = builder.fsub(f, constant(kind, 0.5))
        highest, *others = _POWER_32 if single else _POWER_64
        power = constant(kind, highest)
        for coefficient in others:
            power = _call(builder, f"llvm.fmuladd.{_suffix(f)}", kind, power, f, constant(kind, coefficient))
        exponent = builder.add(builder.fptosi(n, integers), constant(integers, bias))
        scale = builder.bitcast(builder.shl(exponent, constant(integers, shift)), kind)
        return builder.fmul(power, scale)

    return x(x), code

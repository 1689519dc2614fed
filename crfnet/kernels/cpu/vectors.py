"""Eight numbers side by side as a type of numba: one AVX register of float32, two of NEON.

numba does not make vector code of sums over eight scalars. These intrinsics write LLVM vectors, which run as
fast as hand-written ones on every processor that LLVM knows. Arrays are C-contiguous; a place in one is
counted in numbers from its first, whatever its shape, and is not checked.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: D103  # intrinsics: the name is what it does

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import models, register_model

__all__ = [
    "add", "any_above", "at", "exp", "filled", "fma", "intrinsic", "inverse", "less", "load", "maximum",
    "mul", "place_of", "put", "rint", "spread", "spread_at", "store", "sub", "total", "total_of_products",
    "transpose",
]  # fmt: skip

LANES = 8


def intrinsic(function: Callable[..., Any]) -> Any:
    """A function that writes LLVM code; to mypy it takes what compiled code gives it, without ``typing``."""
    return extending.intrinsic(function)


_INT32 = ir.IntType(32)


class Vector(types.Type):
    """Eight numbers of one precision."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"{dtype}x{LANES}")


_VECTORS = {dtype: Vector(dtype) for dtype in (types.float32, types.float64)}


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector) -> None:
        super().__init__(manager, vector, _ir(vector))


def _ir(vector: Vector) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if vector.dtype == types.float32 else ir.DoubleType(), LANES)


def _constant(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def place_of(context, builder, array_type, array, place_type, place) -> ir.Instruction:
    """A pointer to one number of an array, for intrinsics."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [context.cast(builder, place, place_type, types.intp)])


def _lanes_at(context, builder, vector, sig, args) -> ir.Instruction:
    """Pointer to the eight numbers of ``args[0]`` from place ``args[1]`` on."""
    pointer = place_of(context, builder, sig.args[0], args[0], sig.args[1], args[1])
    return builder.bitcast(pointer, _ir(vector).as_pointer())


def _align(vector: Vector) -> int:
    return int(vector.dtype.bitwidth // 8)


@intrinsic
def load(typing, array, place):
    vector = _VECTORS[array.dtype]

    def code(context, builder, sig, args):
        return builder.load(_lanes_at(context, builder, vector, sig, args), align=_align(vector))

    return vector(array, place), code


@intrinsic
def store(typing, array, place, x):
    def code(context, builder, sig, args):
        builder.store(args[2], _lanes_at(context, builder, x, sig, args), align=_align(x))
        return context.get_dummy_value()

    return types.void(array, place, x), code


@intrinsic
def at(typing, array, place):
    """One number of an array."""

    def code(context, builder, sig, args):
        return builder.load(place_of(context, builder, sig.args[0], args[0], sig.args[1], args[1]))

    return array.dtype(array, place), code


@intrinsic
def put(typing, array, place, x):
    """Sets one number of an array."""

    def code(context, builder, sig, args):
        value = context.cast(builder, args[2], sig.args[2], sig.args[0].dtype)
        builder.store(value, place_of(context, builder, sig.args[0], args[0], sig.args[1], args[1]))
        return context.get_dummy_value()

    return types.void(array, place, x), code


def _spread(builder, kind: ir.VectorType, value) -> ir.Instruction:
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(_INT32, 0))
    lanes = _constant(ir.VectorType(_INT32, LANES), 0)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), lanes)


@intrinsic
def spread(typing, x):
    """One number in all lanes."""
    vector = _VECTORS[x]
    return vector(x), lambda context, builder, sig, args: _spread(builder, _ir(vector), args[0])


@intrinsic
def spread_at(typing, array, place):
    """One number of an array in all lanes."""
    vector = _VECTORS[array.dtype]

    def code(context, builder, sig, args):
        pointer = place_of(context, builder, sig.args[0], args[0], sig.args[1], args[1])
        return _spread(builder, _ir(vector), builder.load(pointer))

    return vector(array, place), code


@intrinsic
def filled(typing, array, x):
    """A float64 in all lanes, in the precision of an array."""
    vector = _VECTORS[array.dtype]

    def code(context, builder, sig, args):
        return _spread(builder, _ir(vector), context.cast(builder, args[1], sig.args[1], vector.dtype))

    return vector(array, x), code


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


def _call(builder, name: str, result, *values) -> ir.Instruction:
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


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
    return x(x), lambda context, builder, sig, args: builder.fdiv(_constant(args[0].type, 1.0), args[0])


@intrinsic
def any_above(typing, x, y):
    """Whether x is larger than y in some lane."""

    def code(context, builder, sig, args):
        lanes = builder.bitcast(builder.fcmp_ordered(">", args[0], args[1]), ir.IntType(LANES))
        return builder.icmp_unsigned("!=", lanes, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(x, y), code


@intrinsic
def transpose(typing, source, place, stride, target, where, step):
    """Eight rows of eight numbers, ``stride`` apart, become eight columns; their rows are ``step`` apart."""
    vector = _VECTORS[source.dtype]

    def code(context, builder, sig, args):
        def rows(array, kind, start, stride):
            return [
                _lanes_at(
                    context, builder, vector, types.void(kind, types.intp),
                    (array, builder.add(start, builder.mul(stride, ir.Constant(start.type, k)))),
                )
                for k in range(LANES)
            ]  # fmt: skip

        place, stride, where, step = (
            context.cast(builder, args[i], sig.args[i], types.intp) for i in (1, 2, 4, 5)
        )
        x = [builder.load(row, align=_align(vector)) for row in rows(args[0], sig.args[0], place, stride)]
        for distance in (1, 2, 4):  # swaps blocks of distance x distance numbers across the diagonal
            x = _swapped(builder, x, distance)
        for row, value in zip(rows(args[3], sig.args[3], where, step), x, strict=True):
            builder.store(value, row, align=_align(vector))
        return context.get_dummy_value()

    return types.void(source, place, stride, target, where, step), code


def _swapped(builder, rows: list[Any], distance: int) -> list[Any]:
    kind = ir.VectorType(_INT32, LANES)
    low = [k if k & distance == 0 else LANES + k - distance for k in range(LANES)]
    high = [k + distance if k & distance == 0 else LANES + k for k in range(LANES)]
    swapped = list(rows)
    for k in range(LANES):
        if k & distance == 0:
            pair = rows[k], rows[k + distance]
            swapped[k] = builder.shuffle_vector(*pair, ir.Constant(kind, low))
            swapped[k + distance] = builder.shuffle_vector(*pair, ir.Constant(kind, high))
    return swapped


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
        lowest = _constant(kind, 1.0 - bias)
        t = builder.fmul(args[0], _constant(kind, math.log2(math.e)))
        t = builder.select(builder.fcmp_ordered(">", t, lowest), t, lowest)
        n = builder.sitofp(builder.fptosi(t, integers), kind)  # llvm.floor may become eight calls
        n = builder.fsub(n, builder.uitofp(builder.fcmp_ordered(">", n, t), kind))
        f = builder.fsub(t, n)
        if not single:
            f = builder.fsub(f, _constant(kind, 0.5))
        highest, *others = _POWER_32 if single else _POWER_64
        power = _constant(kind, highest)
        for coefficient in others:
            power = _call(builder, f"llvm.fmuladd.{_suffix(f)}", kind, power, f, _constant(kind, coefficient))
        exponent = builder.add(builder.fptosi(n, integers), _constant(integers, bias))
        scale = builder.bitcast(builder.shl(exponent, _constant(integers, shift)), kind)
        return builder.fmul(power, scale)

    return x(x), code

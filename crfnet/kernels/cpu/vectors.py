"""Eight numbers side by side as a type of numba: one AVX register of float32, two of NEON.

numba does not make vector code of sums over eight scalars. These intrinsics write LLVM vectors, which run as
fast as hand-written ones on every processor that LLVM knows. Arrays are C-contiguous; a place in one is
counted in numbers from its first, whatever its shape, and is not checked.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, import-untyped"
# ruff: noqa: D103  # intrinsics: the name is what it does

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.extending import models, register_model

__all__ = [
    "LANES", "VECTORS", "Vector", "at", "constant", "filled", "intrinsic", "ir_of", "load", "place_of",
    "put", "spread", "spread_at", "store", "transpose",
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


VECTORS = {dtype: Vector(dtype) for dtype in (types.float32, types.float64)}


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector) -> None:
        super().__init__(manager, vector, ir_of(vector))


def ir_of(vector: Vector) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if vector.dtype == types.float32 else ir.DoubleType(), LANES)


def constant(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def place_of(context, builder, array_type, array, place_type, place) -> ir.Instruction:
    """A pointer to one number of an array, for intrinsics."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [context.cast(builder, place, place_type, types.intp)])


def _lanes_at(context, builder, vector, sig, args) -> ir.Instruction:
    """Pointer to the eight numbers of ``args[0]`` from place ``args[1]`` on."""
    pointer = place_of(context, builder, sig.args[0], args[0], sig.args[1], args[1])
    return builder.bitcast(pointer, ir_of(vector).as_pointer())


def _align(vector: Vector) -> int:
    return int(vector.dtype.bitwidth // 8)


@intrinsic
def load(typing, array, place):
    vector = VECTORS[array.dtype]

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
    lanes = constant(ir.VectorType(_INT32, LANES), 0)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), lanes)


@intrinsic
def spread(typing, x):
    """One number in all lanes."""
    vector = VECTORS[x]
    return vector(x), lambda context, builder, sig, args: _spread(builder, ir_of(vector), args[0])


@intrinsic
def spread_at(typing, array, place):
    """One number of an array in all lanes."""
    vector = VECTORS[array.dtype]

    def code(context, builder, sig, args):
        pointer = place_of(context, builder, sig.args[0], args[0], sig.args[1], args[1])
        return _spread(builder, ir_of(vector), builder.load(pointer))

    return vector(array, place), code


@intrinsic
def filled(typing, array, x):
    """A float64 in all lanes, in the precision of an array."""
    vector = VECTORS[array.dtype]

    def code(context, builder, sig, args):
        return _spread(builder, ir_of(vector), context.cast(builder, args[1], sig.args[1], vector.dtype))

    return vector(array, x), code


@intrinsic
def transpose(typing, source, place, stride, target, where, step):
    """Eight rows of eight numbers, ``stride`` apart, become eight columns; their rows are ``step`` apart."""
    vector = VECTORS[source.dtype]

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

"""The vector type against numpy."""

import numpy as np
import pytest

from crfnet.kernels.cpu import arithmetic as m
from crfnet.kernels.cpu import vectors as v
from crfnet.kernels.cpu.compile import entry

DTYPES = [np.float32, np.float64]


@entry
def _binary(x, y, out):
    a, b = v.load(x, 0), v.load(y, 0)
    v.store(out, 0, m.add(a, b))
    v.store(out, 8, m.sub(a, b))
    v.store(out, 16, m.mul(a, b))
    v.store(out, 24, m.maximum(a, b))
    v.store(out, 32, m.less(a, b))
    v.store(out, 40, m.fma(a, b, v.spread_at(y, 3)))
    v.store(out, 48, m.rint(a))
    v.store(out, 56, m.inverse(a))
    v.store(out, 64, v.filled(out, 2.5))


@entry
def _reduced(x, y, out):
    a, b = v.load(x, 0), v.load(y, 0)
    v.put(out, 0, m.total(a))
    v.put(out, 1, m.total_of_products(a, b))
    v.put(out, 2, 1 if m.any_above(a, b) else 0)
    v.put(out, 3, v.at(x, 5))


@entry
def _exponential(x, out):
    for place in range(0, x.size, 8):
        v.store(out, place, m.exp(v.load(x, place)))


@entry
def _transposed(x, place, stride, out, where, step):
    v.transpose(x, place, stride, out, where, step)


@pytest.mark.parametrize("dtype", DTYPES)
def test_operations_are_those_of_numpy(dtype):
    x, y = np.random.default_rng(0).normal(size=(2, 8)).astype(dtype) * 3
    out = np.empty((9, 8), dtype)
    _binary(x, y, out)
    expected = [
        x + y,
        x - y,
        x * y,
        np.maximum(x, y),
        x < y,
        x * y + y[3],
        np.rint(x),
        1 / x,
        np.full(8, 2.5),
    ]
    np.testing.assert_allclose(
        out, np.array(expected), rtol=4 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions_are_those_of_numpy(dtype):
    x, y = np.random.default_rng(1).normal(size=(2, 8)).astype(dtype)
    out = np.empty(4, np.float64)
    _reduced(x, y, out)
    total = x.astype(float) @ y.astype(float)  # in float64 for both
    np.testing.assert_allclose(out[1:], [total, 1, x[5]], rtol=1e-14)
    assert out[0] == pytest.approx(float(x.sum()), abs=20 * float(np.finfo(dtype).eps))
    _reduced(x, np.maximum(x, y), out)
    assert out[2] == 0


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, 2e-6), (np.float64, 4e-15)])
def test_exp_is_exact_to_rounding(dtype, error):
    x = np.linspace(-40, 40, 8000).astype(dtype)
    out = np.empty_like(x)
    _exponential(x, out)
    np.testing.assert_allclose(out, np.exp(x.astype(np.longdouble)).astype(float), rtol=error)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_far_below_is_nothing(dtype):
    x = np.array([-1e4, -800, -100, -88, 0, 0, 0, 0], dtype)
    out = np.empty_like(x)
    _exponential(x, out)
    assert (out[:4] < 1e-37).all()
    np.testing.assert_allclose(out[4:], 1, rtol=2e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose_takes_rows_apart(dtype):
    x = np.random.default_rng(2).normal(size=(10, 13)).astype(dtype)
    out = np.zeros((12, 9), dtype)
    _transposed(x, 13 + 2, 13, out, 9 + 1, 9)
    expected = np.zeros_like(out)
    expected[1:9, 1:9] = x[1:9, 2:10].T
    np.testing.assert_array_equal(out, expected)

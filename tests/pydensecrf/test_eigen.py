"""What comes back behaves as an array, whatever is asked of it."""

import pickle

import numpy as np
import pytest
import torch

from crfnet.pydensecrf import densecrf as dcrf
from crfnet.pydensecrf import eigen


def test_marginals():
    crf = dcrf.DenseCRF(30, 4, device="cpu")
    crf.setUnaryEnergy(np.arange(120).reshape(4, 30) % 7)
    q = crf.inference(1)
    assert isinstance(q, eigen.MatrixXf)
    assert q.shape == (4, 30)
    assert memoryview(q).format == "f"
    copied = np.array(q)
    assert type(copied) is np.ndarray
    assert copied.dtype == np.float32
    assert copied.flags.f_contiguous
    assert torch.equal(torch.from_numpy(q), torch.from_numpy(copied))
    np.testing.assert_allclose(np.sum(q, axis=0), 1, rtol=1e-5)


def test_what_numpy_makes_of_them_is_numpy():
    q = eigen.matrixXf([[1, 5, 0], [2, 3, 4]])
    for made in (np.argmax(q, axis=0), q * 2, np.log(q + 1), np.reshape(q, (3, 2)), np.stack([q, q])):
        assert type(made) is np.ndarray
    assert np.argmax(q, axis=0).tolist() == [1, 0, 1]
    assert isinstance(np.max(q), np.float32)
    assert (q == np.array([[1, 5, 0], [2, 3, 4]])).all()


def test_pickle():
    for array in (eigen.matrixXf(np.arange(12).reshape(3, 4)), eigen.vectorXf([1, 2])):
        again = pickle.loads(pickle.dumps(array))
        assert type(again) is type(array)
        assert (np.asarray(again) == np.asarray(array)).all()


def test_made_by_hand():
    given = np.ones((3, 4), np.float32)
    matrix = eigen.matrixXf(given)
    given[0, 0] = 7
    assert matrix[0, 0] != 7
    assert memoryview(matrix).strides == (4, 12)
    assert eigen.MatrixXf().shape == (0, 0)
    assert eigen.VectorXf().shape == (0,)
    assert eigen.vectorXf([1, 2]).tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"Buffer has wrong number of dimensions \(expected 2, got 1\)"):
        eigen.matrixXf([1, 2])
    with pytest.raises(ValueError, match=r"Buffer has wrong number of dimensions \(expected 1, got 2\)"):
        eigen.vectorXf([[1, 2]])
    with pytest.raises(TypeError, match="Argument 'arr' must not be None"):
        eigen.vectorXf(None)

"""`utils`: numbers by hand, and those of the real pydensecrf."""

from pathlib import Path

import numpy as np
import pytest
import torch

from crfnet.pydensecrf import densecrf as dcrf
from crfnet.pydensecrf import utils

LOG = np.log


def assert_energies(actual, expected):
    assert actual.dtype == np.float32
    assert actual.flags.c_contiguous
    np.testing.assert_allclose(actual, expected, atol=1e-6)


class TestLabels:
    def test_zero_is_unknown(self):
        yes, no, unsure = -LOG(0.7), -LOG(0.3 / 2), LOG(3)
        expected = [[unsure, yes, no, no], [unsure, no, yes, no], [unsure, no, no, yes]]
        labels = np.array([[0, 1], [2, 3]])
        assert_energies(utils.unary_from_labels(labels, 3, 0.7), expected)
        assert_energies(utils.unary_from_labels(labels, 3, gt_prob=0.7, zero_unsure=True), expected)
        assert_energies(utils.unary_from_labels(labels.astype(np.uint8), 3, 0.7), expected)
        assert_energies(utils.unary_from_labels(torch.from_numpy(labels), np.int64(3), 0.7), expected)
        assert_energies(utils.unary_from_labels([[0, 1], [2, 3]], 3, 0.7), expected)

    def test_zero_is_a_label(self):
        yes, no = -LOG(0.9), -LOG(0.1)
        for labels in ([0, 1, 1], [False, True, True]):
            energies = utils.unary_from_labels(labels, 2, 0.9, zero_unsure=False)
            assert_energies(energies, [[yes, no, no], [no, yes, yes]])

    def test_one_label(self):
        assert_energies(utils.unary_from_labels([0, 1], 1, 0.9), [[0, -LOG(0.9)]])

    def test_the_callers_labels_stay(self):
        labels = np.array([0, 1, 2])
        utils.unary_from_labels(labels, 2, 0.5)
        assert labels.tolist() == [0, 1, 2]

    def test_deprecated(self):
        with pytest.warns(DeprecationWarning, match="compute_unary is deprecated, use unary_from_labels"):
            assert_energies(utils.compute_unary([1, 2], 2), [[LOG(2)] * 2] * 2)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ([0, 4], 3, 0.5),
                r"labels: values from 0 to 4, must be in 0..3 for 3 labels and zero_unsure=True",
            ),
            (([0, 3], 3, 0.5, False), r"labels: values from 0 to 3, must be in 0..2"),
            (([-1, 2], 3, 0.5), "labels: values from -1 to 2"),
            (([0.0, 1.5], 3, 0.5), "labels: float64, must be whole numbers"),
            (([0, 1], 3, 1.0), r"`gt_prob` must be in \(0,1\), is 1.0"),
            (([0, 1], 0, 0.5), "n_labels is 0, must be a whole number >= 1"),
        ],
    )
    def test_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            utils.unary_from_labels(*arguments)


class TestSoftmax:
    def test_clipped_and_scaled(self):
        p = np.array([[[0.0, 0.25]], [[1.0, 0.75]]])
        assert_energies(utils.unary_from_softmax(p), -LOG([[1e-5, 0.25], [1, 0.75]]))
        assert_energies(utils.unary_from_softmax(p, scale=0.5), -LOG([[0.25, 0.375], [0.75, 0.625]]))
        assert_energies(utils.unary_from_softmax(p, None, 0.3), -LOG([[0.3, 0.3], [1, 0.75]]))
        assert_energies(utils.unary_from_softmax(p, clip=None), [[np.inf, -LOG(0.25)], [0, -LOG(0.75)]])
        with pytest.warns(DeprecationWarning, match="softmax_to_unary is deprecated, use unary_from_softmax"):
            assert_energies(utils.softmax_to_unary(p, 0.5), -LOG([[0.25, 0.375], [0.75, 0.625]]))
        with pytest.warns(DeprecationWarning, match="softmax_to_unary"):
            assert utils.softmax_to_unary(p)[0, 0] == np.inf

    @pytest.mark.parametrize("form", [np.asfortranarray, torch.from_numpy, np.ndarray.tolist, np.float32])
    def test_any_array(self, form):
        p = np.arange(1, 25).reshape(2, 3, 4) / 25
        assert_energies(utils.unary_from_softmax(form(p)), -LOG(p).reshape(2, -1))

    def test_labels_moved_to_the_front(self):
        """The transposed view that costs pydensecrf's callers an error one line later."""
        p = np.random.default_rng(0).dirichlet(np.ones(3), (4, 5)).astype(np.float32)  # (h, w, labels)
        crf = dcrf.DenseCRF2D(5, 4, 3, device="cpu")
        u = utils.unary_from_softmax(p.transpose(2, 0, 1))
        assert_energies(u, -LOG(p).reshape(-1, 3).T)
        crf.setUnaryEnergy(u)
        np.testing.assert_allclose(crf.inference(0), p.reshape(-1, 3).T, atol=1e-6)

    @pytest.mark.parametrize("scale", [0, 1.5, float("nan")])
    def test_scale_refused(self, scale):
        with pytest.raises(ValueError, match=r"`scale` needs to be in \(0,1\], is"):
            utils.unary_from_softmax([[0.5]], scale)

    def test_number_refused(self):
        with pytest.raises(ValueError, match="sm is a single number"):
            utils.unary_from_softmax(0.5)


class TestFeatures:
    def test_positions_row_first(self):
        expected = np.array([[y / 3, x / 4] for y in range(2) for x in range(3)]).T
        assert_energies(utils.create_pairwise_gaussian((3, 4), (2, 3)), expected)
        assert_energies(utils._create_pairwise_gaussian_2d(3, 4, (2, 3)), expected)

    @pytest.mark.filterwarnings("ignore:sdims is one number")
    def test_one_and_three_axes(self):
        assert_energies(utils.create_pairwise_gaussian([2], [4]), [[0, 0.5, 1, 1.5]])
        volume = utils.create_pairwise_gaussian(2.0, (2, 3, 4)).reshape(3, 2, 3, 4)
        assert volume[:, 1, 2, 3].tolist() == [0.5, 1, 1.5]

    def test_channels_after_positions(self):
        image = np.random.default_rng(0).integers(0, 256, (2, 3, 4))
        expected = np.array(
            [[y / 3, x / 4, *(image[y, x] / [1, 2, 3, 4])] for y in range(2) for x in range(3)]
        ).T
        schan = (1, 2, 3, 4)
        for given, chdim in ((image, 2), (image.transpose(2, 0, 1), 0), (image.transpose(0, 2, 1), -2)):
            assert_energies(utils.create_pairwise_bilateral((3, 4), schan, given, chdim), expected)
        in_place = torch.from_numpy(image)
        assert_energies(utils.create_pairwise_bilateral((3, 4), schan, img=in_place, chdim=2), expected)
        rgb = utils._create_pairwise_bilateral_2d(3, 4, 1, 2, 3, image[..., :3])
        assert_energies(rgb, expected[:5])

    def test_one_width_for_all_channels(self):
        image = np.arange(24).reshape(2, 3, 4)
        one = utils.create_pairwise_bilateral((3, 4), 2.5, image, 2)
        assert_energies(one, utils.create_pairwise_bilateral((3, 4), [2.5] * 4, image, 2))

    def test_no_channel_axis(self):
        """-1 is not the last axis."""
        gray = np.arange(6).reshape(2, 3)
        features = utils.create_pairwise_bilateral((3, 4), 2, gray)
        assert_energies(features[2:], [gray.reshape(-1) / 2])
        assert_energies(features[:2], utils.create_pairwise_gaussian((3, 4), (2, 3)))

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (
                lambda: utils.create_pairwise_gaussian((3, 0), (2, 3)),
                r"sdims is \(3, 0\), must be a number or 2",
            ),
            (lambda: utils.create_pairwise_gaussian((3, 3, 3), (2, 3)), r"sdims is \(3, 3, 3\), must be"),
            (
                lambda: utils.create_pairwise_gaussian((3, 3), (2, 0)),
                "shape is 0, must be a whole number >= 1",
            ),
            (
                lambda: utils.create_pairwise_bilateral((3, 3), (1, 2, 3, 4, 5), np.zeros((2, 3, 4)), 2),
                r"schan is \(1, 2, 3, 4, 5\), must be a number or up to 4 numbers",
            ),
            (
                lambda: utils.create_pairwise_bilateral((3, 3), 1, np.zeros((2, 3, 4)), 3),
                r"chdim is 3, must be an axis of img, of shape \(2, 3, 4\), or -1",
            ),
            (
                lambda: utils.create_pairwise_bilateral((3, 3, 3, 3), 1, np.zeros((2, 3, 4))),
                r"sdims is \(3, 3, 3, 3\), must be a number or up to 3 numbers",
            ),
        ],
    )
    def test_refused(self, call, message):
        with pytest.raises(ValueError, match=message):
            call()


def test_golden(extra_data: Path):
    golden = np.load(extra_data / "pydensecrf_golden.npz")
    labels, p, image = golden["labels"], golden["P"], golden["img"]
    assert_energies(utils.unary_from_labels(labels, 4, 0.7), golden["ulab"])
    assert_energies(utils.unary_from_labels(labels % 4, 4, 0.7, zero_unsure=False), golden["ulab_nz"])
    assert_energies(utils.unary_from_softmax(p), golden["U"])
    assert_energies(utils.unary_from_softmax(p, scale=0.7, clip=1e-3), golden["usm_scale"])
    assert_energies(utils.create_pairwise_gaussian((3, 4), (11, 17)), golden["feat_gauss"])
    features = utils.create_pairwise_bilateral((80, 60), (13, 10, 12), image, chdim=2)
    assert_energies(features, golden["feat_bil"])

import torch

from crfnet.crf.features import bilateral_features, spatial_features

F64 = torch.float64
CPU = torch.device("cpu")


def test_features_of_one_pixel():
    image = torch.zeros(2, 3, 4, 5, dtype=F64)
    image[1, :, 2, 3] = torch.tensor([10.0, 20.0, 30.0])
    expected = torch.tensor([3 / 2, 2 / 2, 2.0, 4.0, 6.0], dtype=F64)  # x first, then y
    features = bilateral_features(image, 2.0, 5.0)
    assert features.shape == (2, 5, 20)
    torch.testing.assert_close(features[1, :, 2 * 5 + 3], expected)
    torch.testing.assert_close(spatial_features(4, 5, 2.0, dtype=F64, device=CPU)[0, :, 13], expected[:2])


def test_bytes_and_floats_agree_and_float64_stays():
    image = torch.randint(0, 256, (1, 3, 2, 3), dtype=torch.uint8)
    assert bilateral_features(image, 3.0, 4.0).dtype == torch.float32
    assert torch.equal(bilateral_features(image, 3.0, 4.0), bilateral_features(image.float(), 3.0, 4.0))
    assert bilateral_features(image.double(), 3.0, 4.0).dtype == F64


def test_any_number_of_channels():
    assert bilateral_features(torch.zeros(1, 1, 2, 2), 1.0, 1.0).shape == (1, 3, 4)
    assert bilateral_features(torch.zeros(1, 7, 2, 2), 1.0, 1.0).shape == (1, 9, 4)


def test_bandwidths_get_gradients():
    image = 255 * torch.rand(1, 3, 2, 3, dtype=F64)
    thetas = [torch.tensor(theta, dtype=F64, requires_grad=True) for theta in (2.0, 30.0)]
    assert torch.autograd.gradcheck(lambda alpha, beta: bilateral_features(image, alpha, beta), thetas)
    assert torch.autograd.gradcheck(
        lambda gamma: spatial_features(2, 3, gamma, dtype=F64, device=CPU), thetas[:1]
    )

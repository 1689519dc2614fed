"""The layer: its limits, its formula, what it accepts, and the edges."""

import math
import threading

import pytest
import torch
from torch import nn

from crfnet import Segmenter
from crfnet.domain_transform import DomainTransform, DomainTransformConfig, EdgeNet, image_edges, reference
from crfnet.errors import InputError


def logits_and_image(b=2, labels=3, h=6, w=8):
    return torch.randn(b, labels, h, w), torch.rand(b, 3, h, w) * 255


def test_formula():
    """Chen et al. 2016, eq. 2 and the sigma of Gastal & Oliveira 2011, eq. 14, written out for one image."""
    logits, image = logits_and_image(b=1)
    sigma_s, sigma_r, total = 20.0, 30.0, 3
    layer = DomainTransform(DomainTransformConfig(sigma_s=sigma_s, sigma_r=sigma_r, iterations=total))
    values = logits.double()
    for k in range(1, total + 1):
        sigma = sigma_s * math.sqrt(3) * 2 ** (total - k) / math.sqrt(4**total - 1)
        weights = torch.zeros(1, 2, 1, 6, 8, dtype=torch.float64)
        for y in range(6):
            for x in range(8):
                for axis, (up, left) in enumerate(((0, 1), (1, 0))):
                    if y >= up and x >= left:
                        g = (image[0, :, y, x] - image[0, :, y - up, x - left]).abs().sum()
                        weights[0, axis, 0, y, x] = math.exp(
                            -math.sqrt(2) / sigma * (1 + sigma_s / sigma_r * g)
                        )
        values = reference.recursive_filter(values, weights)
    torch.testing.assert_close(layer(logits, image).double(), values, atol=1e-5, rtol=1e-5)


def test_no_edges_and_wide_sigma_give_the_mean():
    logits, _ = logits_and_image(h=9, w=7)
    layer = DomainTransform(DomainTransformConfig(sigma_s=1e6))
    smooth = layer(logits, edges=torch.zeros(2, 1, 9, 7))
    torch.testing.assert_close(smooth, smooth.mean((2, 3), keepdim=True).expand_as(smooth), atol=1e-3, rtol=0)


def test_endless_edges_change_nothing():
    logits, _ = logits_and_image()
    edges = torch.full((2, 1, 6, 8), torch.inf)
    torch.testing.assert_close(DomainTransform()(logits, edges=edges), logits)


def test_endless_edges_have_gradients():
    logits, _ = logits_and_image()
    layer = DomainTransform(DomainTransformConfig(learn_sigma=True))
    layer(logits.requires_grad_(), edges=torch.full((2, 1, 6, 8), torch.inf)).square().sum().backward()
    assert layer.log_sigma_s.grad == 0
    assert layer.log_sigma_r.grad == 0


def test_constant_logits_stay():
    _, image = logits_and_image()
    constant = torch.tensor([1.0, -2.0, 5.0]).view(1, 3, 1, 1).expand(2, 3, 6, 8)
    torch.testing.assert_close(DomainTransform()(constant, image), constant)


def test_a_mask_is_as_a_smaller_image():
    logits, image = logits_and_image()
    mask = torch.zeros(2, 6, 8, dtype=torch.bool)
    mask[:, :4, 2:7] = True
    layer = DomainTransform()
    out = layer(logits, image, mask=mask)
    torch.testing.assert_close(
        out[:, :, :4, 2:7], layer(logits[:, :, :4, 2:7].contiguous(), image[:, :, :4, 2:7].contiguous())
    )
    outside = ~mask.unsqueeze(1).expand_as(out)
    torch.testing.assert_close(out[outside], logits[outside])


def test_gradients_of_logits_edges_and_widths():
    layer = DomainTransform(DomainTransformConfig(sigma_s=4.0, sigma_r=2.0, learn_sigma=True)).double()
    logits = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    edges = torch.rand(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)

    def run(logits, edges, sigma_s, sigma_r):
        values = {"log_sigma_s": sigma_s, "log_sigma_r": sigma_r}
        return torch.func.functional_call(layer, values, (logits,), {"edges": edges})

    widths = [p.detach().clone().requires_grad_() for p in (layer.log_sigma_s, layer.log_sigma_r)]
    assert torch.autograd.gradcheck(run, (logits, edges, *widths))


def test_autocast_half_and_double():
    logits, image = logits_and_image()
    layer = DomainTransform()
    expected = layer(logits, image)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(logits, image), expected)
    assert layer(logits.half(), image).dtype == torch.float32
    assert layer(logits.double(), image).dtype == torch.float64


def test_gray_image_and_bytes():
    logits, image = logits_and_image()
    gray = image[:, :1].round()
    torch.testing.assert_close(DomainTransform()(logits, gray), DomainTransform()(logits, gray.byte()))


def test_image_edges_of_bytes_do_not_wrap():
    image = torch.tensor([[[[0, 255, 10]]]], dtype=torch.uint8)
    assert image_edges(image).tolist() == [[[[0, 255, 245]], [[0, 0, 0]]]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": None}, "image is None"),
        ({"edges": torch.ones(2, 3, 6, 8)}, "edges: torch.float32 of shape"),
        ({"edges": -torch.ones(2, 1, 6, 8)}, "must be >= 0"),
        ({"edges": torch.full((2, 1, 6, 8), torch.nan)}, "must be >= 0"),
        ({"image": torch.rand(2, 3, 6, 8)}, "0..255"),
        ({"image": torch.rand(2, 3, 6, 7) * 255}, "image: shape"),
        ({"mask": torch.ones(2, 6, 8)}, "mask"),
    ],
)
def test_bad_input(changes, said):
    logits, image = logits_and_image()
    with pytest.raises(ValueError, match=said):
        DomainTransform()(logits, **{"image": image, **changes})


@pytest.mark.parametrize(("name", "value"), [("sigma_s", 0.0), ("sigma_r", math.inf), ("iterations", 0)])
def test_bad_config(name, value):
    with pytest.raises(InputError, match=f"domain_transform.{name} is"):
        DomainTransformConfig(**{name: value})


def test_it_stands_where_a_crf_stands():
    """And reduces the noise of a network's logits while an edge of the image stays sharp."""
    image = torch.full((1, 3, 16, 32), 30.0)
    image[..., 16:] = 220
    clean = torch.zeros(1, 2, 16, 32)
    clean[:, 0, :, :16] = clean[:, 1, :, 16:] = 1
    noisy = clean + torch.randn(clean.shape)
    network = nn.Module()
    network.forward = lambda x: noisy
    labels = Segmenter(network, DomainTransform())(image).argmax(1)
    assert (labels == clean.argmax(1)).all()
    assert not (noisy.argmax(1) == clean.argmax(1)).all()


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, stride=2, padding=1)
        self.head = nn.Conv2d(5, 3, 1)

    def forward(self, x):
        return self.head(self.second(self.first(x)))


def test_edges_are_learned_through_the_loss():
    network = TwoLayers()
    edge_net = EdgeNet.behind(network, ["first", "second"])
    assert edge_net.predict.in_channels == 9
    model = Segmenter(network, DomainTransform(edge_net=edge_net))
    image = torch.rand(2, 3, 16, 18) * 255
    before = [p.clone() for p in edge_net.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(image).square().mean().backward()
    optimizer.step()
    assert all((p != q).any() for p, q in zip(edge_net.parameters(), before, strict=True))
    assert all(p.grad is not None for p in network.parameters())
    assert not network.first._forward_hooks


def test_learned_edges_of_a_padded_image_are_cropped():
    network = TwoLayers()
    edge_net = EdgeNet.behind(network, ["second"])
    model = Segmenter(network, DomainTransform(edge_net=edge_net), multiple=16).eval()
    image = torch.rand(1, 3, 20, 30) * 255
    padded = nn.functional.pad(image, (0, 2, 0, 12), mode="replicate")
    with torch.no_grad(), model.edge_features() as features:
        model.strided_logits(image)
    with torch.no_grad():
        expected = edge_net({"second": network.second(network.first(model.normalized(padded)))}, (32, 32))
    assert torch.equal(model.learned_edges(features, (20, 30)), expected[:, :, :20, :30])


def test_edges_that_are_learned_must_be_given():
    layer = DomainTransform(edge_net=EdgeNet({"first": 4}))
    with pytest.raises(ValueError, match="edges are None, must be those of edge_net"):
        layer(*logits_and_image())


class MultipleOf(TwoLayers):
    def forward(self, x):
        if x.shape[2] % 32 or x.shape[3] % 32:
            raise RuntimeError("sizes must be multiples of 32")
        return super().forward(x)


@pytest.mark.parametrize("network", [TwoLayers, MultipleOf])
def test_building_an_edge_net_leaves_the_modes_of_a_network(network):
    network = network()
    network.second.eval()  # as a frozen batch normalization
    assert EdgeNet.behind(network, ["second"]).predict.in_channels == 5
    with pytest.raises(InputError, match="layer is 'third'"):
        EdgeNet.behind(network, ["third"])
    assert [network.training, network.first.training, network.second.training] == [True, True, False]


def test_a_network_that_takes_no_size_says_why():
    class Broken(TwoLayers):
        def forward(self, x):
            return self.head(x)  # of five channels

    with pytest.raises(RuntimeError, match="channels"):
        EdgeNet.behind(Broken(), ["second"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_learned_edges_of_a_converted_model(dtype):
    network = TwoLayers()
    model = Segmenter(network, DomainTransform(edge_net=EdgeNet.behind(network, ["first"]))).eval()
    image = torch.rand(1, 3, 16, 18) * 255
    with torch.no_grad():
        expected, found = model(image), model.to(dtype)(image)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.3)


def test_threads_that_share_a_model_keep_their_edges_apart():
    network = TwoLayers()
    model = Segmenter(network, DomainTransform(edge_net=EdgeNet.behind(network, ["second"]))).eval()
    images = [torch.rand(1, 3, 16, 18) * 255 for _ in range(2)]
    with torch.no_grad():
        expected = [model(image) for image in images]
    barrier, found = threading.Barrier(2), {}
    forward = network.forward

    def meet(x):
        logits = forward(x)
        barrier.wait(30)  # both have run the layers
        return logits

    network.forward = meet

    def work(k):
        with torch.no_grad():
            found[k] = model(images[k])

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(2):
        torch.testing.assert_close(found[k], expected[k])


def test_edge_net_refuses_layers_that_are_not_there():
    with pytest.raises(InputError, match=r"layer is 'third', must be a module of the network: first, second"):
        EdgeNet.behind(TwoLayers(), ["third"])
    with pytest.raises(InputError, match="must be one module"):
        EdgeNet({})


def test_compiled_model():
    logits, image = logits_and_image()
    layer = DomainTransform()
    torch.testing.assert_close(torch.compile(layer, backend="eager")(logits, image), layer(logits, image))

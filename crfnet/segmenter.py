"""The whole model: image in 0..255 -> network -> logits at image size -> dense CRF -> logits."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import torch
from torch import Tensor, nn

from crfnet.backbones import IMAGENET_MEAN, IMAGENET_STD
from crfnet.crf.checks import check_image_range
from crfnet.crf.exporting import is_exporting, refuse_export
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.domain_transform import DomainTransform, DomainTransformConfig, EdgeNet
from crfnet.domain_transform.edges import features_of
from crfnet.errors import InputError, require
from crfnet.models import ModelConfig, build_network
from crfnet.models.input_channels import adapt_first_convolution, channel_statistics
from crfnet.network_size import NetworkSize
from crfnet.resize import AlignCorners, resize_logits
from crfnet.shapes import EdgeMap, Image, LogitMap, Logits, StridedLogits

__all__ = ["CAFFE_MEAN_BGR", "RefinementConfig", "Segmenter", "build_refinement", "build_segmenter"]

RefinementConfig: TypeAlias = CRFConfig | DomainTransformConfig  #: of what may stand behind a network

#: Of networks from Caffe, which take ``bgr=True`` and ``std=(1, 1, 1)``.
CAFFE_MEAN_BGR = (104.008, 116.669, 122.675)


class Segmenter(nn.Module):
    """Any segmentation network with the preprocessing before it and, if wanted, a dense CRF behind it.

    The network runs in whatever autocast is active; its logits are resized in float32. The CRF gets the image
    as it came, on the scale 0..255. Images of any size are taken: for a network that needs a multiple of its
    stride (U-Nets do) they are padded, and its logits cropped.

    Args:
        network: takes a normalized image ``(b, c, h, w)``, RGB or of ``mean``'s channels, returns logits
            ``(b, l, hs, ws)`` of any stride, or an object that holds them: as ``["out"]`` (torchvision's
            segmentation networks), as ``["logits"]`` or as ``.logits`` (transformers').
        crf: a `DenseCRF` of as many classes, a `DomainTransform`, or any module that is called as
            ``crf(logits, image)``. The `EdgeNet` of a domain transform gets the features of the network.
        mean: subtracted from the image, in the channel order of the network.
        std: what the difference is divided by, in the channel order of the network.
        bgr: the network takes its channels as blue, green, red.
        align_corners: geometry of the resize of logits to image size; see `resize_logits`.
        multiple: of what the network needs rows and columns; None to find it where the network refuses an
            image, see `NetworkSize`.

    Raises:
        ValueError: ``mean`` or ``std`` are not finite numbers, three or as many as each other, or a ``std``
            is not positive.
        InputError: ``multiple`` is not at least 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        crf: nn.Module | None = None,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        bgr: bool = False,
        align_corners: AlignCorners = False,
        multiple: int | None = None,
    ) -> None:
        super().__init__()
        require("multiple", multiple, multiple is None or multiple >= 1, "at least 1, or None to find it")
        of_channels = "three finite numbers, or one for each channel of the images, for mean and std"
        if len(mean) != len(std) or not mean or not all(map(math.isfinite, mean)):
            raise ValueError(f"mean: {tuple(mean)}, must be {of_channels}")
        if not all(0 < value < math.inf for value in std):
            raise ValueError(
                f"std: {tuple(std)}, must be {of_channels.replace('finite', 'positive finite', 1)}"
            )
        self.network = network
        self.crf = crf
        self.bgr = bgr
        self.align_corners = align_corners
        self.size = NetworkSize(multiple)
        # Buffers, so that they move with the model; in no checkpoint, because the configuration gives them.
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def strided_logits(self, image: Image) -> StridedLogits:
        """Compute the network's own logits at its stride, in its own precision.

        Of an image that had to be padded, at image size.

        Args:
            image: RGB in 0..255, uint8 or float, not normalized; or of as many channels as ``mean`` has.

        Raises:
            ValueError: other channels, empty, not finite, or clearly not 0..255; or the network returns
                logits of a size that no stride of its explains.
            TypeError: the network returned neither a tensor nor an object that holds one as above.
        """
        return self._run(lambda x: [_logits_of(self.network(x))], image)[0]

    def all_logits(self, image: Image) -> list[LogitMap]:
        """Compute all maps that a training loss is taken of: `strided_logits` first, then further ones.

        They come from its method ``all_logits`` (DeepLab v2 on three scales has four); a network without
        that method has those alone. For image and errors see `strided_logits`.
        """
        if not hasattr(self.network, "all_logits"):
            return [self.strided_logits(image)]
        return self._run(lambda x: list(self.network.all_logits(x)), image)  # type: ignore[operator]

    def _run(self, network: Callable[[Tensor], list[Tensor]], image: Image) -> list[LogitMap]:
        """The network's maps, cropped to the image where it was padded: by way of the padded image's size."""
        normalized = self.normalized(image)
        maps, padded = self.size.run(network, normalized, self.network)
        size = (image.shape[2], image.shape[3])
        if padded == size:
            return maps
        return [self.upsample(each, padded)[:, :, : size[0], : size[1]] for each in maps]

    def normalized(self, image: Image) -> Image:
        """Normalize as the network expects: the channels in its order, minus ``mean``, divided by ``std``."""
        check_image(image, len(self.mean.flatten()))
        channels = image.flip(1) if self.bgr else image
        return (channels.to(self.mean.dtype) - self.mean) / self.std

    def forward(self, image: Image) -> Logits:
        """Compute logits at image size, through the CRF if there is one; errors: see `strided_logits`."""
        return self.both(image)[0]

    def both(self, image: Image) -> tuple[Logits, StridedLogits]:
        """Compute the logits of `forward` and those at the network's stride, for a loss on each."""
        if self.crf is not None:
            refuse_export()
        size = (image.shape[2], image.shape[3])
        with self.edge_features() as features:
            strided = self.strided_logits(image)
        edges = self.learned_edges(features, size)
        return self.refine(self.upsample(strided, size), image, edges), strided

    @property
    def edge_net(self) -> EdgeNet | None:
        """What learns the edges of a domain transform from the network's features, if anything does."""
        return self.crf.edge_net if isinstance(self.crf, DomainTransform) else None

    def edge_features(self) -> AbstractContextManager[dict[str, Tensor]]:
        """Collect, while the network runs on a batch, what `learned_edges` are made of."""
        return nullcontext({}) if self.edge_net is None else features_of(self.network, self.edge_net.layers)

    def learned_edges(self, features: Mapping[str, Tensor], size: tuple[int, int]) -> EdgeMap | None:
        """Compute the learned edges of images of that size (rows, columns); None where none are learned."""
        if self.edge_net is None:
            return None
        edges: EdgeMap = self.edge_net(features, self.size.padded(size))
        return edges[:, :, : size[0], : size[1]]

    def refine(self, logits: Logits, image: Image, edges: EdgeMap | None = None) -> Logits:
        """Put logits at image size through the CRF, if there is one, with `learned_edges` where given."""
        if self.crf is None:
            return logits
        refined: Logits = self.crf(logits, image, **({} if edges is None else {"edges": edges}))
        return refined

    def upsample(self, strided: StridedLogits, size: tuple[int, int]) -> Logits:
        """Scores resized to ``size`` (rows, columns); see `resize_logits`."""
        return resize_logits(strided, size, align_corners=self.align_corners)


def check_image(image: object, channels: int = 3) -> None:
    """Refuse what is clearly no batch of images in 0..255 with that many channels.

    Raises:
        TypeError: no tensor.
        ValueError: names what came and what is allowed.
    """
    if not isinstance(image, Tensor):
        raise TypeError(f"image: a {type(image).__name__}, must be a tensor: torch.from_numpy(image)")
    if image.ndim != 4 or image.shape[1] != channels or image.numel() == 0:
        raise ValueError(f"image: shape {tuple(image.shape)}, must be (b, {channels}, h, w), not empty")
    if not is_exporting():  # which has no values to look at
        check_image_range(image)


def _logits_of(output: object) -> Tensor:
    if isinstance(output, Mapping):
        found = output.get("out", output.get("logits"))
    else:
        found = getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        raise TypeError(
            f"network: returned {_described(output)}, must return a tensor, or one as ['out'], ['logits'] or "
            ".logits"
        )
    return found


def _described(output: object) -> str:
    if isinstance(output, Mapping):
        return f"a dictionary with the keys {', '.join(map(repr, output)) or 'none'}"
    return f"a {type(output).__name__}"


def build_segmenter(
    model: ModelConfig, num_classes: int, crf: RefinementConfig | None = None, *, channels: int = 3
) -> Segmenter:
    """Build the model of a configuration.

    Args:
        model: the network.
        num_classes: at least 2.
        crf: the dense CRF or the domain transform behind it; None for the network alone.
        channels: of the images; see `adapt_first_convolution` for others than RGB's three.

    Raises:
        InputError: the backbone or its weights are not to be had, the CRF cannot be built, or the
            preprocessing is of three channels.
        ValueError: fewer than two classes.
    """
    rgb = channels == 3 or model.preprocessing != "caffe"
    require("model.preprocessing", model.preprocessing, rgb, f"backbone or imagenet for {channels} channels")
    if crf is not None:
        require("num_classes", num_classes, num_classes >= 2, ">= 2")
    network = build_network(model, num_classes)
    adapt_first_convolution(network, channels)
    layer = None if crf is None else build_refinement(crf, num_classes, network, channels)
    mean, std = {
        "backbone": (network.backbone.mean, network.backbone.std),
        "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
        "caffe": (CAFFE_MEAN_BGR, (1.0, 1.0, 1.0)),
        "tensorflow": ((127.5,) * 3, (127.5,) * 3),
    }[model.preprocessing]
    return Segmenter(
        network,
        layer,
        mean=channel_statistics(mean, channels),
        std=channel_statistics(std, channels),
        bgr=model.preprocessing == "caffe",
        align_corners=model.align_corners,
    )


def build_refinement(
    config: RefinementConfig, num_classes: int, network: nn.Module | None = None, channels: int = 3
) -> nn.Module:
    """Build what stands behind a network: a `DenseCRF` or a `DomainTransform`.

    Args:
        config: of either.
        num_classes: at least 2.
        network: whose features learned edges are made of; None where there are only its logits.
        channels: of the images.

    Raises:
        InputError: it cannot be built: learned edges of layers that the network lacks, or without a network.
    """
    if isinstance(config, CRFConfig):
        return DenseCRF(num_classes, config)
    if config.edges == "image":
        return DomainTransform(config)
    if network is None:
        raise InputError("domain_transform.edges is learned, must be image where there are only logits")
    return DomainTransform(config, edge_net=EdgeNet.behind(network, config.layers, channels))

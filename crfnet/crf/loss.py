"""The dense CRF as a loss on a network's probabilities, for weak supervision: no inference, one filtering."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.crf.checks import check_image_range
from crfnet.crf.features import bilateral_features
from crfnet.crf.filters import GaussianFilter, PermutohedralFilter
from crfnet.crf.inputs import Array, ImageRange, as_tensor, beside, mapped
from crfnet.errors import InputError
from crfnet.shapes import Image, Marginals

__all__ = ["DenseCRFLoss"]


class DenseCRFLoss(nn.Module):
    """Potts energy of soft segmentations S under a bilateral kernel: ``-weight / b sum_l S_l . (K S_l)``.

    ``K_ij = exp(-|p_i - p_j|^2 / 2 sigma_xy^2 - |I_i - I_j|^2 / 2 sigma_rgb^2)``, not normalized, pairs
    i = j included. Neighbors of like color that disagree cost; use it beside a loss on the pixels that
    have labels. Tang et al. 2018, "On Regularized Losses for Weakly-supervised CNN Segmentation"; value,
    resizing and defaults are those of their public code (rloss).

    The paper's form is ``sum_l S_l . K (1 - S_l)``, which is >= 0: the same and a constant,
    ``sum_l S_l . K 1 = sum_ij K_ij``, as long as the probabilities of every pixel sum to 1. ``full=True``
    gives that form, for one more channel in the filtering; with a mask, 1 is the mask.

    The gradient goes to the probabilities by a second filtering, exactly for the filter in use. Neither the
    image nor the widths get one.

    Args:
        weight: factor in front, >= 0. Sums over all pairs of pixels are large, hence the small default.
        sigma_rgb: width over colors, on the scale 0..255, > 0.
        sigma_xy: width over positions, in pixels of the image as given, > 0.
        scale: everything is resized by this factor first (the image and the mask to the nearest pixel, the
            probabilities bilinearly), in (0, 1]; sigma_xy shrinks with it.
        filter: how K is applied; None for the permutohedral lattice. The lattice's raw values come out up to
            half too low (see its class), and so does the loss; the code of Tang et al. filters with the same
            lattice.
        full: whether to add the constant above.

    Raises:
        InputError: an argument is outside its range.
    """

    def __init__(
        self,
        weight: float = 2e-9,
        sigma_rgb: float = 15.0,
        sigma_xy: float = 100.0,
        scale: float = 0.5,
        filter: GaussianFilter | None = None,
        *,
        full: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("sigma_rgb", sigma_rgb), ("sigma_xy", sigma_xy)):
            if not 0 < value < math.inf:
                raise InputError(f"DenseCRFLoss: {name} is {value}, must be > 0 and finite")
        if not 0 <= weight < math.inf:
            raise InputError(f"DenseCRFLoss: weight is {weight}, must be >= 0 and finite")
        if not 0 < scale <= 1:
            raise InputError(f"DenseCRFLoss: scale is {scale}, must be in (0, 1]")
        self.weight, self.sigma_rgb, self.sigma_xy, self.scale = weight, sigma_rgb, sigma_xy, scale
        self.filter, self.full = filter or PermutohedralFilter(), full

    def forward(
        self,
        probabilities: Marginals | Array,
        image: Image | Array,
        mask: Bool[Tensor, "b h w"] | Array | None = None,
        *,
        image_range: ImageRange | None = None,
    ) -> Float[Tensor, ""]:
        """The loss, averaged over the images of the batch.

        Arrays of numpy are taken as tensors, and what lies on another device than the probabilities is copied
        there.

        Args:
            probabilities: of a softmax over labels, in 0..1, of the image's size.
            image: of any number of channels, as RGB or gray, in 0..255, not normalized; uint8 or float.
            mask: the pixels that count, as senders and as receivers; None for all. An image without any
                adds 0.
            image_range: of an image on another scale, see `DenseCRF.forward`.

        Raises:
            ValueError: shapes do not fit, values are not finite or on another scale, or the scaled image has
                no pixel.
        """
        probabilities = as_tensor("probabilities", probabilities)
        image = beside("image", image, probabilities)
        mask = None if mask is None else beside("mask", mask, probabilities)
        check_loss_input(probabilities, image, mask, self.scale, image_range)
        dtype = torch.promote_types(probabilities.dtype, torch.float32)
        with torch.autocast(probabilities.device.type, enabled=False):
            s = self._scaled(probabilities.to(dtype), mode="bilinear", align_corners=False)
            image = mapped(self._scaled(image.detach().to(dtype)), image_range)
            inside = torch.ones_like(s[:, :1])
            if mask is not None:
                inside = self._scaled(mask.unsqueeze(1).to(dtype))
            features = bilateral_features(image, self.sigma_xy * self.scale, self.sigma_rgb)
            height, width = image.shape[2:]
            kernel = self.filter.operator(features, grid=(height, width))
            s, inside = (s * inside).flatten(2), inside.flatten(2)
            if not self.full:
                return -self.weight / len(s) * (s * kernel(s)).sum()
            filtered = kernel(torch.cat([s, inside], dim=1))
            return self.weight / len(s) * (s * (filtered[:, -1:] - filtered[:, :-1])).sum()

    def _scaled(self, x: Tensor, **options: str | bool) -> Tensor:
        return x if self.scale == 1 else F.interpolate(x, scale_factor=self.scale, **options)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return (
            f"weight={self.weight}, sigma_rgb={self.sigma_rgb}, sigma_xy={self.sigma_xy}, "
            f"scale={self.scale}, full={self.full}"
        )


def check_loss_input(
    probabilities: Tensor,
    image: Tensor,
    mask: Tensor | None,
    scale: float,
    image_range: ImageRange | None = None,
) -> None:
    """Refuse what cannot be meant.

    Args:
        probabilities: should be floating point (b, l, h, w), in 0..1.
        image: should be (b, c, h, w) on the scale 0..255, on the same device.
        mask: should be None or boolean (b, h, w), on the same device.
        scale: should leave at least one pixel.
        image_range: of an image on another scale.

    Raises:
        ValueError: names the argument, what came and what is allowed.
    """
    if probabilities.ndim != 4 or probabilities.numel() == 0 or not probabilities.is_floating_point():
        raise ValueError(
            f"probabilities: {probabilities.dtype} of shape {tuple(probabilities.shape)}, "
            "must be floating point (b, l, h, w), not empty"
        )
    b, _, h, w = probabilities.shape
    if image.ndim != 4 or image.shape[1] == 0 or (image.shape[0], *image.shape[2:]) != (b, h, w):
        raise ValueError(f"image: shape {tuple(image.shape)}, must be ({b}, channels, {h}, {w})")
    if mask is not None and (tuple(mask.shape) != (b, h, w) or mask.dtype != torch.bool):
        raise ValueError(
            f"mask: {mask.dtype} of shape {tuple(mask.shape)}, must be torch.bool of {(b, h, w)}"
        )
    for name, tensor in (("image", image), ("mask", mask)):
        if tensor is not None and tensor.device != probabilities.device:
            raise ValueError(
                f"{name}: on {tensor.device}, must be where the probabilities are, {probabilities.device}"
            )
    if min(int(h * scale), int(w * scale)) == 0:
        raise ValueError(f"image: {h} x {w} pixels, must keep at least 1 x 1 when scaled by {scale}")
    low, high = (float(bound) for bound in probabilities.detach().aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN too
        raise ValueError(
            f"probabilities: values from {low:g} to {high:g}, must be in 0..1 (of logits, the softmax)"
        )
    check_image_range(image, image_range, hint=True)

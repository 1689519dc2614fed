"""Configuration of training: the sections ``train:`` and ``joint:`` of a configuration."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from crfnet.config.variants import free
from crfnet.data import AugmentConfig
from crfnet.errors import require

__all__ = ["TrainConfig"]

_LARGEST = 1e30  #: whose product with another rate is still a number in float32
_MOST_ITERATIONS = 10**9  #: which take weeks at the least


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a training run. The defaults are DeepLab v2's for ResNet-101.

    Attributes:
        iterations: updates, of ``batch_size`` images each.
        batch_size: images in an update, of all processes together.
        augment: random scale, crop and mirror.
        lr: learning rate of the backbone's weights.
        schedule: of every learning rate. ``poly``: times ``(1 - step / iterations)^power`` (v2 and later).
            ``step``: times ``gamma`` after every ``step_size`` iterations (v1).
        power: of the poly schedule.
        step_size: of the step schedule, iterations.
        gamma: of the step schedule, in (0, 1].
        momentum: of SGD.
        weight_decay: of weights; biases and the CRF have none.
        head_lr: multiplier for the head.
        bias_lr: multiplier for biases.
        loss: ``stride``: on labels subsampled at the network's stride (v1, v2), without a CRF. ``image``: at
            image size, behind the CRF where there is one.
        unary_loss: with ``image``, weight of the ``stride`` loss on the network's own logits that is added.
        class_weights: of the cross-entropy, a number >= 0 for each class in their order, or ``balanced``:
            inverse to the pixels of each class in the training images (what ``crfnet data check`` prints).
            None by default.
        focal: exponent gamma of the focal loss, ``(1 - p)^gamma`` times the cross-entropy; 0 is the
            cross-entropy alone, 2 what its authors use.
        dice: share of the Dice loss, ``1 - dice`` that of the cross-entropy; in [0, 1].
        early_stop: validations in a row without a higher mean IoU after which training ends; 0 for never.
            Needs validate_every. best.pt is the network from before them.
        crf_lr: learning rate of the CRF's parameters (logarithms of widths, inverse softplus of weights), for
            a loss that is a mean over pixels. Also follows the schedule, so that the CRF settles with the
            network.
        crf_warmup: first iterations, with the network frozen and in evaluation mode. For a model without a
            trainable CRF they are skipped: as a control it sees the same images at the same learning rates in
            the remaining iterations.
        clip: largest norm of the gradient of all parameters together; 0 for no limit.
        checkpoint_every: iterations between checkpoints; there is always one at the end.
        log_every: iterations between TensorBoard's numbers; the log has every iteration.
        picture_every: iterations between TensorBoard's pictures; 0 for none.
        validate_every: iterations between validations, mean IoU on the validation images; 0 for none. The
            best network so far is kept as best.pt.
        validate_images: how many validation images, from the first one; 0 for all.
        workers: processes that read and augment images; 0 for none beside the main one. Changes no result.
        accumulate: parts that each process computes its images in, one after the other, for larger batches
            than memory holds. The same numbers to rounding, but batch normalization sees a part at a time.
        precision: of the network in the forward pass (autocast; float16 with a scaled loss). Weights, the
            CRF and the loss stay in float32, on CPUs depthwise convolutions too, which are faster so.
        channels_last: layout of the network's maps and weights; faster on most GPUs at lower precision.
        compile: the network through torch.compile; minutes at the start, and a C++ compiler is needed.
        sync_batch_norm: statistics of batch normalization over all processes instead of each its own; GPUs.

    Raises:
        InputError: a value is outside its range.
    """

    iterations: int = 20_000
    batch_size: int = 10
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    lr: float = 2.5e-4
    schedule: Literal["poly", "step"] = "poly"
    power: float = 0.9
    step_size: int = 2000
    gamma: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    head_lr: float = 10.0
    bias_lr: float = 2.0
    loss: Literal["stride", "image"] = "stride"
    unary_loss: float = 0.0
    class_weights: Literal["balanced"] | tuple[float, ...] = ()
    focal: float = 0.0
    dice: float = 0.0
    early_stop: int = 0
    crf_lr: float = 1e-2
    crf_warmup: int = 0
    clip: float = 0.0
    checkpoint_every: int = free(500)
    log_every: int = free(20)
    picture_every: int = free(500)
    validate_every: int = free(0)
    validate_images: int = free(0)
    workers: int = free(0)
    accumulate: int = 1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    compile: bool = False
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "step_size", "checkpoint_every", "log_every", "accumulate"):
            self._require(name, getattr(self, name) >= 1, ">= 1")
        self._require("iterations", self.iterations <= _MOST_ITERATIONS, f"at most {_MOST_ITERATIONS}")
        for name in (
            "crf_warmup",
            "picture_every",
            "validate_every",
            "validate_images",
            "workers",
            "early_stop",
        ):
            self._require(name, getattr(self, name) >= 0, ">= 0")
        for name in (
            "lr",
            "power",
            "weight_decay",
            "head_lr",
            "bias_lr",
            "unary_loss",
            "crf_lr",
            "clip",
            "focal",
        ):
            self._require(name, 0 <= getattr(self, name) <= _LARGEST, f"a number >= 0, at most {_LARGEST:g}")
        self._require("momentum", 0 <= self.momentum < 1, "in [0, 1)")
        self._require("schedule", self.schedule in ("poly", "step"), "poly or step")
        self._require("gamma", 0 < self.gamma <= 1, "in (0, 1]")
        self._require(
            "precision", self.precision in ("float32", "bfloat16", "float16"), "float32, bfloat16 or float16"
        )
        divides = self.batch_size % self.accumulate == 0
        self._require("accumulate", divides, f"a divisor of batch_size ({self.batch_size})")
        self._require("loss", self.loss in ("stride", "image"), "stride or image")
        self._require("unary_loss", self.loss == "image" or self.unary_loss == 0, "0 with loss stride")
        self._require("dice", 0 <= self.dice <= 1, "in [0, 1]")
        weights = (1.0,) if self.class_weights == "balanced" else self.class_weights
        good = all(0 <= weight < math.inf for weight in weights) and (not weights or sum(weights) > 0)
        self._require("class_weights", good, "balanced, or a number >= 0 for each class")
        without = self.early_stop == 0 or self.validate_every > 0
        self._require("early_stop", without, "0 without validate_every")
        self._require("crf_warmup", self.crf_warmup <= self.iterations, f"<= iterations ({self.iterations})")

    def _require(self, name: str, holds: bool, allowed: str) -> None:
        require(name, getattr(self, name), holds, allowed)

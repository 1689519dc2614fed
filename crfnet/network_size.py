"""Which sizes of images a network takes: padding to a multiple, and outputs whose size can be explained."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crfnet.errors import InputError
from crfnet.shapes import Image, LogitMap

__all__ = ["NetworkSize", "evaluating", "explained"]

_LOG = logging.getLogger(__name__)
#: What is tried: strides of encoders, patches of transformers (14, 28) and windows of patches.
_MULTIPLES = (2, 4, 8, 14, 16, 24, 28, 32, 48, 64, 96, 128)
_Network = Callable[[Tensor], list[Tensor]]


class NetworkSize:
    """What a network needs rows and columns to be a multiple of; found at the first image that it refuses.

    A network that adds what it pooled to what it did not (U-Net) fails at sizes that do not halve evenly, or
    returns a map of another size. Then multiples are tried, once, on an empty image in evaluation mode, and
    the smallest that works serves from then on.

    Args:
        multiple: given instead of found.
    """

    def __init__(self, multiple: int | None = None) -> None:
        self.given = multiple is not None
        self.multiple = 1 if multiple is None else multiple

    def run(
        self, network: _Network, image: Image, module: nn.Module
    ) -> tuple[list[LogitMap], tuple[int, int]]:
        """The network's maps, and the size of the padded image that they are of.

        Args:
            network: image to maps of logits; the first is the one whose size is looked at.
            image: normalized.
            module: whose mode is evaluation in trials.

        Raises:
            ValueError: no stride explains the size of the output. What the network raises, where no padding
                helps.
        """
        padded = _padded(image, self.multiple)
        if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:  # sizes are symbols
            return network(padded), _size(padded)
        if self.given:
            return _checked(network(padded), padded), _size(padded)
        try:
            return _checked(network(padded), padded), _size(padded)
        except (InputError, torch.OutOfMemoryError):
            raise
        except (RuntimeError, ValueError, AssertionError):
            with evaluating(module):
                found = None if _works(network, padded) else self._find(network, image)
            if found is None:
                raise
            self.multiple = found
        _LOG.info(
            "the network needs multiples of %d pixels: images are padded, logits cropped", self.multiple
        )
        padded = _padded(image, self.multiple)
        return _checked(network(padded), padded), _size(padded)

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns that an image of that size was padded to when the network ran on it."""
        rows, columns = (pixels + -pixels % self.multiple for pixels in size)
        return rows, columns

    def _find(self, network: _Network, image: Tensor) -> int | None:
        """The smallest multiple above the present one that works; None where none does.

        Tried are *odd* multiples of it, so that 32 rows do not pass for a network that needs multiples of 2.
        """
        for multiple in _MULTIPLES:
            if multiple > self.multiple:
                rows, columns = (_odd_multiple(size, multiple) for size in _size(image))
                if _works(network, image.new_zeros(1, image.shape[1], rows, columns)):
                    return multiple
        return None


def explained(size: int, count: int) -> bool:
    """Whether ``count`` positions are a whole stride apart on ``size`` pixels, or each is divided evenly.

    A strided network has ``size / stride`` of them, rounded either way, or one more where a pool looks
    beyond the image.
    """
    if count >= size or count == 0:
        return count > 0 and count % size == 0
    strides = range(max(2, size // (count + 1)), size // max(1, count - 2) + 2)
    return any(count in {size // stride, -(-size // stride), -(-size // stride) + 1} for stride in strides)


def _checked(maps: list[Tensor], image: Tensor) -> list[Tensor]:
    """The maps, if the first can be laid over the image."""
    shape, size = tuple(maps[0].shape), _size(image)
    fits = len(shape) == 4 and shape[0] == len(image)
    if not fits or not all(explained(n, count) for n, count in zip(size, shape[2:], strict=True)):
        raise ValueError(
            f"network: returned logits of shape {shape} for an image of {size[0]} x {size[1]} pixels"
            f", must be ({len(image)}, l, hs, ws) of its size or at a whole stride; one that "
            "cuts borders off must pad its input itself"
        )
    return maps


def _works(network: _Network, image: Tensor) -> bool:
    try:
        _checked(network(image), image)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, AssertionError):
        return False
    return True


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within, nothing is learned from what the module sees, not even statistics of batches."""
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for each, mode in modes:
            if each.training != mode:
                each.train(mode)  # sets more than the mode in some, such as an output stride


def _padded(image: Tensor, multiple: int) -> Tensor:
    """The last pixels repeated below and to the right, up to a multiple."""
    below, right = (-size % multiple for size in _size(image))
    return F.pad(image, (0, right, 0, below), mode="replicate") if below or right else image


def _odd_multiple(size: int, multiple: int) -> int:
    count = -(-size // multiple)
    return (count + 1 - count % 2) * multiple


def _size(image: Tensor) -> tuple[int, int]:
    return image.shape[2], image.shape[3]

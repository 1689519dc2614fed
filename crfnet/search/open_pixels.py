"""Mean field where it still matters: on the pixels that two steps leave in doubt.

After two steps nine of ten pixels are all but certain of their label, and they stay so. With ``tolerance``
> 0 these are settled: they keep the marginals that they have then. All steps go on between the open pixels
alone, through kernels at the cost of these (`crfnet.search.open_kernels`). Which pixels are open is decided
once for an image, by the outermost points of the search's grid, so that all points agree. How far that
moves a point's mIoU is measured, not bounded: see the package's README.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from crfnet.crf.features import bilateral_features
from crfnet.crf.filters.permutohedral.lattice import Lattice, build_lattice
from crfnet.crf.filters.separable import SeparableGaussian
from crfnet.crf.normalization import factors
from crfnet.crf.pruning import Pruning
from crfnet.search.config import SearchConfig
from crfnet.search.grid import Point
from crfnet.search.open_kernels import coarse_gaussian, in_half, read_at, restricted
from crfnet.shapes import Features, Image, LabelMap, Logits

__all__ = ["OpenPixels"]

_Table = Float[Tensor, "_ _"]  #: (pixels, labels)
_Pair = tuple[float, float]  #: w1 and w2
_LARGEST_STACK = 2**21  #: weights x labels x open pixels that are filtered at once
_LARGEST_EXPONENT = 80.0
_STEPS = 2  # of all pixels; after one, more are open for the same error, and a third saves less than it costs


@dataclass(frozen=True)
class _Messages:
    """``K~ Q`` at the open pixels: what those send to one another, and what all others send for good."""

    among: Callable[[_Table], _Table]
    others: _Table

    @classmethod
    def of(cls, everything: _Table, among: Callable[[_Table], _Table], reference: _Table) -> "_Messages":
        """From the messages of all pixels, to which the open ones sent their marginals of `reference`."""
        return cls(among, everything - among(reference))


class OpenPixels:
    """One image with settled and open pixels; gives the labels of any point of the search.

    Args:
        logits: of one image (b = 1).
        image: that image, 0..255 (b = 1).
        config: the grid, normalization, prune and tolerance are used. Labels below `prune` are left out.
    """

    @torch.no_grad()
    def __init__(self, logits: Logits, image: Image, config: SearchConfig) -> None:
        self._image, self._grid, self._config = image.float(), tuple(logits.shape[2:]), config
        unary = logits.detach().float().flatten(2)
        self._labels = Pruning.below(config.prune, unary, None).kept
        table = unary[0, self._labels].T.contiguous()
        table -= table.amax(1, keepdim=True)
        start = table.softmax(1)
        self._reference, sure = self._first_steps(table, start)
        self.open = (~sure).nonzero().flatten()  #: numbers of the open pixels, increasing
        self._settled = self._labels[self._reference.argmax(1)]
        # Settled pixels are so many that every second one speaks for two, as on a chess board.
        rows, columns = (torch.arange(size, device=table.device) for size in self._grid)
        spoken = sure & ((rows.unsqueeze(1) + columns) % 2 == 0).flatten()
        senders = (spoken | ~sure).nonzero().flatten()
        self._among = (~sure[senders]).nonzero().flatten()  # the open pixels among them
        loud = sure.sum() / spoken.sum().clamp_min(1)
        self._loudness = torch.where(sure[senders], loud, 1.0).unsqueeze(1)
        ones = torch.ones_like(self._loudness)
        self._sent = torch.cat([self._reference[senders], ones], 1) * self._loudness
        self._features = bilateral_features(self._image, 1.0, 1.0)[:, :, senders]
        self._unary, self._start = table[self.open], start[self.open]
        self._spatial: dict[float, _Messages] = {}

    @torch.no_grad()
    def labels(self, points: Sequence[Point]) -> Iterator[tuple[Point, LabelMap]]:
        """Every point once with its most likely labels (h, w), in any order.

        Args:
            points: all of the same theta_alpha and theta_beta.
        """
        if len(self.open) == 0:
            yield from ((point, self._settled.view(self._grid)) for point in points)
            return
        bilateral, like = self._bilateral(points[0].theta_alpha, points[0].theta_beta)
        ordered = sorted(points, key=lambda p: (p.theta_gamma, p.w1, p.w2))
        for theta_gamma, part in itertools.groupby(ordered, lambda p: p.theta_gamma):
            same = list(part)
            spatial = self._spatial_messages(theta_gamma, like) if any(p.w2 for p in same) else None
            pairs = list(dict.fromkeys((p.w1, p.w2) for p in same))
            most = max(1, _LARGEST_STACK // self._unary.numel())
            size = -(-len(pairs) // -(-len(pairs) // most))  # turns of nearly the same length
            for turn in (pairs[i : i + size] for i in range(0, len(pairs), size)):
                asked = [point for point in same if (point.w1, point.w2) in turn]
                for steps, labels in self._run(turn, bilateral, spatial, {p.iterations for p in asked}):
                    for point in asked:
                        if point.iterations == steps:
                            yield point, self._whole(labels[:, turn.index((point.w1, point.w2))])

    def _run(
        self,
        weights: Sequence[_Pair],
        bilateral: _Messages,
        spatial: _Messages | None,
        wanted: set[int],
    ) -> Iterator[tuple[int, Tensor]]:
        """The steps of several pairs of weights side by side; labels (open, weights) of those wanted."""
        number, (pixels, labels) = len(weights), self._unary.shape
        # Of every column: tables lie side by side.
        w1, w2 = torch.tensor(weights).to(self._unary).T.repeat_interleave(labels, dim=1)
        side_by_side = (1, number)
        constant = self._unary.repeat(side_by_side)
        constant.addcmul_(bilateral.others.repeat(side_by_side), w1)
        if spatial is not None:
            constant.addcmul_(spatial.others.repeat(side_by_side), w2)
        q = self._start.repeat(side_by_side)
        for step in range(1, max(wanted) + 1):
            logits = torch.addcmul(constant, bilateral.among(q), w1)
            if spatial is not None:
                logits.addcmul_(spatial.among(q), w2)
            if step in wanted:
                yield step, logits.view(pixels, number, labels).max(2).indices
            if step < max(wanted):
                q = _softmax_(logits.view(-1, labels)).view(pixels, -1)

    def _whole(self, labels: Tensor) -> LabelMap:
        return self._settled.index_copy(0, self.open, self._labels[labels]).view(self._grid)

    def _first_steps(self, unary: _Table, start: _Table) -> tuple[_Table, Bool[Tensor, " n"]]:
        """Marginals after these, the mean over the outermost points of the grid; where all are sure."""
        grid = self._config.grid()
        gammas, w1s, w2s = (sorted({a[0], a[-1]}) for a in (grid.theta_gamma, grid.w1, grid.w2))
        mean, number, label = torch.zeros_like(start), 0, None
        sure = torch.ones_like(start[:, 0], dtype=torch.bool)
        features = bilateral_features(self._image, 1.0, 1.0)
        ones = torch.ones_like(start[:, :1])
        for end in {(grid.theta_alpha[i], grid.theta_beta[i]) for i in (0, -1)}:
            lattice = build_lattice(_scaled(features, *end))
            bilateral = partial(self._normalized, lattice, lattice(ones))
            first = bilateral(start)  # the same for all weights
            for gamma, w1, w2 in itertools.product(gammas, w1s, w2s):
                q = start
                for step in range(_STEPS):
                    logits = torch.add(unary, first if step == 0 else bilateral(q), alpha=w1)
                    q = _softmax_(logits.add_(self._smoothed(q, gamma), alpha=w2))
                likeliest, which = q.max(1)
                label = which if label is None else label
                sure &= (likeliest > 1 - self._config.tolerance) & (which == label)
                mean, number = mean.add_(q), number + 1
        return mean.div_(number), sure

    def _bilateral(self, theta_alpha: float, theta_beta: float) -> tuple[_Messages, Lattice]:
        """K~_1; the lattice among the open pixels beside it."""
        lattice = build_lattice(_scaled(self._features, theta_alpha, theta_beta))
        send, receive, sent = None, None, self._sent
        if self._config.normalization in ("before", "symmetric"):
            send, receive = factors(lattice(self._loudness), self._config.normalization)
            sent = sent if send is None else sent * send
        received = read_at(lattice, self._among)(sent)
        if self._config.normalization == "after":
            receive = factors(received[:, -1:], "after")[1]
        elif receive is not None:
            receive = receive[self._among]
        everything = received[:, :-1] if receive is None else received[:, :-1] * receive
        send, receive = (None if one is None else one.flatten() for one in (send, receive))
        small = restricted(lattice, self._among).scaled(None if send is None else send[self._among], receive)
        return _Messages.of(everything, in_half(small), self._reference[self.open]), small

    def _spatial_messages(self, theta_gamma: float, like: Lattice) -> _Messages:
        """K~_2, the same for all lattices of the image."""
        if theta_gamma not in self._spatial:
            everything = self._smoothed(self._reference, theta_gamma)[self.open]
            sums = self._gaussian(theta_gamma)(torch.ones_like(self._reference[:, :1]))[self.open]
            send, receive = factors(sums, self._config.normalization)
            among = coarse_gaussian(self._grid, theta_gamma, self.open, like, send, receive)
            self._spatial[theta_gamma] = _Messages.of(everything, among, self._reference[self.open])
        return self._spatial[theta_gamma]

    def _smoothed(self, table: _Table, theta_gamma: float) -> _Table:
        """``K~_2 Q`` of all pixels, exact."""
        gaussian = self._gaussian(theta_gamma)
        return self._normalized(gaussian, gaussian(torch.ones_like(table[:, :1])), table)

    def _normalized(self, kernel: Callable[[_Table], _Table], sums: _Table, table: _Table) -> _Table:
        send, receive = factors(sums, self._config.normalization)
        out = kernel(table if send is None else table * send)
        return out if receive is None else out.mul_(receive)

    def _gaussian(self, theta_gamma: float) -> Callable[[_Table], _Table]:
        gaussian = SeparableGaussian(self._grid, torch.tensor(theta_gamma, device=self._image.device))
        return lambda table: gaussian.product(table.T.unsqueeze(0))[0].T


def _scaled(features: Features, theta_alpha: float, theta_beta: float) -> Features:
    """The features of bandwidths 1, for others; as `bilateral_features` in the order (x, y, color)."""
    widths = [theta_alpha] * 2 + [theta_beta] * (features.shape[1] - 2)
    return features / torch.tensor(widths).to(features).view(-1, 1)


def _softmax_(logits: _Table) -> _Table:
    """Softmax of every row, in place; rows are short, and their largest logit is about 0 or above."""
    if float(logits.max()) > _LARGEST_EXPONENT:
        logits -= logits.amax(1, keepdim=True)
    logits.exp_()
    # A product with ones puts the sum of a row beside each of its numbers: four times as fast as sum and div.
    return logits.div_(logits @ logits.new_ones(logits.shape[1], logits.shape[1]))

"""The CRF parameter search on cached scores: DeepLab's cross-validation of (w1, theta_alpha, theta_beta).

``scores`` reads and writes cached scores, ``convert`` takes those of other programs. ``config`` says what is
searched: ``grid`` the points and published ranges, ``sampling`` which points are tried, ``criteria`` what the
winner has most of. ``sweep`` runs the mean field of many points at once, ``open_pixels`` (with
``open_kernels``) on the pixels in doubt alone, ``counting`` counts what came of it.
``study`` keeps what is finished, ``ledger`` what follows from it (``racing``, ``folds``); ``drive`` does the
work, ``workers`` by several hands. ``protocol`` is the search and ``results`` what it leaves behind.
"""

from crfnet.search.config import SearchConfig
from crfnet.search.images import draw_images
from crfnet.search.loading import load_crf_config
from crfnet.search.protocol import search
from crfnet.search.scores import ScoreFolder, missing_scores, write_scores

__all__ = [
    "ScoreFolder",
    "SearchConfig",
    "draw_images",
    "load_crf_config",
    "missing_scores",
    "search",
    "write_scores",
]

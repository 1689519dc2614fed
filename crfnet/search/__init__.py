"""The CRF parameter search on cached scores: DeepLab's cross-validation of (w1, theta_alpha, theta_beta).

``scores`` reads and writes cached scores, ``grid`` says which points are tried, ``sweep`` runs the mean field
of many points at once, ``study`` keeps what is finished, ``protocol`` is the search and ``results`` what it
leaves behind.
"""

from crfnet.search.grid import SearchConfig
from crfnet.search.protocol import draw_images, search
from crfnet.search.results import load_crf_config
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

"""The CRF parameter search on cached scores: DeepLab's cross-validation of (w1, theta_alpha, theta_beta).

``config`` says what is searched: ``grid`` the points and published ranges, ``sampling`` which of them are
tried, ``criteria`` what the winner has most of. ``sweep`` runs the mean field of many points at once,
``open_pixels`` (with ``open_kernels``) on the pixels in doubt alone, ``counting`` counts what came of it.
``task_queue`` keeps what is finished, ``leaderboard`` what follows from it (``racing``, ``folds``);
``run_tasks`` does the work, ``workers`` by several hands. ``search`` is the search, ``results`` what it
leaves behind.
"""

from crfnet.search.config import SearchConfig
from crfnet.search.images import draw_images
from crfnet.search.search import search

__all__ = ["SearchConfig", "draw_images", "search"]

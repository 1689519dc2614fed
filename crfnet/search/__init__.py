"""CRF parameter search on cached scores: DeepLab's cross-validation of (w1, theta_alpha, theta_beta).

What is searched: `config`, `grid` (points, published ranges), `sampling` (points of a round).
Evaluating a point: `sweep` (mean field), `counting`, `images`.
Choosing: `selection_criteria`, `leaderboard` (results of every point), `racing` (elimination), `folds`
(cross-validation).
Sharing the work: `task_queue` and `database` (Optuna studies), `heartbeat`, `run_tasks`, `workers`.
The widths of a domain transform: `domain_transform`.
From start to end: `search`; its files: `result_files`, `heatmap`.
"""

from crfnet.search.config import SearchConfig
from crfnet.search.domain_transform import DomainTransformSearch, search_domain_transform
from crfnet.search.images import check_search, draw_images
from crfnet.search.search import search

__all__ = [
    "DomainTransformSearch",
    "SearchConfig",
    "check_search",
    "draw_images",
    "search",
    "search_domain_transform",
]

"""Cached network outputs ("scores") on disk, from any framework, read instead of running the network.

`reader` reads a score folder, `writer` writes one, `metadata` is its scores.yaml; `converters` makes one from
other programs' files, whose `formats` are a table and whose axes and scale `recognition` finds;
`probabilities` tells probabilities from logits.

A score folder holds `scores.yaml` and one file per image::

    scores.yaml        num_classes: 21
                       kind: logits            # or probabilities
                       align_corners: false    # of the upsampling, see crfnet.resize.resize_logits
                       source: free text       # what made them; one folder holds the scores of one source
                       digest: 3f5a...         # of the weights, images and protocol; left out where not known
    <id>.npz           with an array `scores` (l, hs, ws), at any stride; float16 is enough
    <id>.npy           or that array alone

A single `.npz` file with the arrays `ids` (i,) and `logits` (i, l, hs, ws) is read as well (kind logits,
align_corners false).
"""

from crfnet.score_cache.probabilities import hold_probabilities, log_probabilities
from crfnet.score_cache.reader import ScoreFolder
from crfnet.score_cache.writer import add_scores, missing_scores, prepare_score_folder, write_scores

__all__ = [
    "ScoreFolder",
    "add_scores",
    "hold_probabilities",
    "log_probabilities",
    "missing_scores",
    "prepare_score_folder",
    "write_scores",
]

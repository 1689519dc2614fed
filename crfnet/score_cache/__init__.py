"""Cached network scores on disk, from any framework: what the search reads instead of running the network.

A score folder holds `scores.yaml` and one file per image::

    scores.yaml        num_classes: 21
                       kind: logits            # or probabilities
                       align_corners: false    # geometry of the upsampling: crfnet.resize.resize_scores
                       source: free text       # what made them; one folder holds the scores of one source
    <id>.npz           with an array `scores` (l, hs, ws), at any stride; float16 is enough
    <id>.npy           or that array alone

A single `.npz` file with the arrays `ids` (i,) and `logits` (i, l, hs, ws) is read as well (kind logits,
align_corners false).
"""

from crfnet.score_cache.reader import ScoreFolder
from crfnet.score_cache.writer import add_scores, claim_scores, missing_scores, write_scores

__all__ = ["ScoreFolder", "add_scores", "claim_scores", "missing_scores", "write_scores"]

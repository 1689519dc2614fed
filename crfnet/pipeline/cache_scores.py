"""Cached scores of a network: what the parameter search and the explorer read instead of running it.

Of several processes (`crfnet.distributed`) each takes its share of the images.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from crfnet.config.variants import to_plain
from crfnet.data import SegmentationDataset
from crfnet.distributed import on_all_ranks, on_rank_zero, shard
from crfnet.evaluation.inference import PredictConfig, TiledInference
from crfnet.pipeline.digests import text_digest
from crfnet.pipeline.samples import select_samples, with_progress
from crfnet.resize import resize_logits
from crfnet.score_cache import ScoreFolder, add_scores, missing_scores, prepare_score_folder
from crfnet.segmenter import Segmenter
from crfnet.shapes import Image, LogitMap

__all__ = ["cache_scores"]


def cache_scores(
    model: Segmenter,
    dataset: SegmentationDataset,
    ids: Sequence[str],
    folder: Path,
    *,
    config: PredictConfig,
    source: str,
    digests: Mapping[str, str] = MappingProxyType({}),
    overwrite: bool = False,
) -> ScoreFolder:
    """Write the network's own scores of the images `ids` into `folder`; existing ones are kept.

    At the network's stride where `config` is one pass over the whole image and the corners of the network's
    map are the image's; at image size where not, where passes or tiles are put together, or where the map is
    larger than the image, which a network of a fixed input size may make.

    Args:
        model: the network.
        dataset: the images.
        ids: of those whose scores are wanted.
        folder: see `prepare_score_folder`.
        config: scales, mirror, tiles and size.
        source: what the network is, in words.
        digests: of the weights and the images; where they or `config` have changed, `folder` is refused.
        overwrite: begin again.
    """
    digest = text_digest(dict(digests), to_plain(config)) if digests else ""
    inference = TiledInference(model, config)
    geometry = inference.geometry
    align_corners = model.align_corners if geometry is None else geometry
    classes, device = len(dataset.classes), next(model.parameters()).device

    def open_folder() -> list[str]:
        prepare_score_folder(folder, classes, align_corners, source, digest=digest, overwrite=overwrite)
        return missing_scores(folder, ids)

    def scores_of(image: Image) -> LogitMap:
        if geometry is None:
            return inference.unary(image)
        strided, size = inference.strided(image), (image.shape[2], image.shape[3])
        larger = strided.shape[2] > size[0] or strided.shape[3] > size[1]
        return resize_logits(strided, size, align_corners=geometry) if larger else strided

    def compute(missing: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
        for sample in with_progress(select_samples(dataset, missing), "scores", len(missing)):
            with torch.inference_mode():
                yield sample.id, scores_of(sample.image[None].to(device))[0].float()

    missing = shard(on_rank_zero(open_folder))
    on_all_ranks(lambda: add_scores(folder, compute(missing), classes))
    return ScoreFolder(folder)

"""The network's scores in a folder, at its stride or at the image's size."""

import torch
from torch import nn

from crfnet.evaluation.inference import PredictConfig, TiledInference
from crfnet.pipeline.cache_scores import cache_scores
from crfnet.segmenter import Segmenter
from tests.search.tiny_dataset import TinyDataset


def test_a_map_larger_than_the_image_is_stored_at_its_size(tmp_path):
    """Of a network that is given every image in a larger size; such scores would be refused."""
    model, dataset = Segmenter(nn.Conv2d(3, 3, 1)).eval(), TinyDataset()
    config = PredictConfig(size=(129, 161))
    scores = cache_scores(model, dataset, dataset.ids[:2], tmp_path / "s", config=config, source="test")
    for name, sample in zip(dataset.ids[:2], dataset, strict=False):
        size = (sample.image.shape[1], sample.image.shape[2])
        assert size < (129, 161)
        assert scores.stored_logits(name).shape[1:] == size
        with torch.no_grad():
            expected = TiledInference(model, config)(sample.image[None])
        torch.testing.assert_close(scores.logits(name, size), expected, rtol=2e-3, atol=2e-3)

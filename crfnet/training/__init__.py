"""Training of a segmenter, with or without its CRF: one linear loop that can be killed and resumed."""

from crfnet.training.checkpoint import checkpoint_crf, load_model
from crfnet.training.config import TrainConfig
from crfnet.training.loop import TrainingDiverged, TrainResult, train

__all__ = ["TrainConfig", "TrainResult", "TrainingDiverged", "checkpoint_crf", "load_model", "train"]

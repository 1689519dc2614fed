"""Training of a segmenter, with or without its CRF: one linear loop that can be killed and resumed."""

from crfnet.training.config import TrainConfig
from crfnet.training.loop import TrainResult, train
from crfnet.training.state import TrainingDiverged, TrainingFailed
from crfnet.training.stopping import TrainingInterrupted
from crfnet.training.update import check_batch_size

__all__ = [
    "TrainConfig",
    "TrainResult",
    "TrainingDiverged",
    "TrainingFailed",
    "TrainingInterrupted",
    "check_batch_size",
    "train",
]

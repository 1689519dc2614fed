"""Training of a segmenter, with or without its CRF: one linear loop that can be killed and resumed."""

from crfnet.training.checks import check_training
from crfnet.training.config import TrainConfig
from crfnet.training.failures import TrainingDivergedError, TrainingFailedError
from crfnet.training.loop import TrainResult, train
from crfnet.training.rehearse_step import rehearse_step
from crfnet.training.stop_signals import TrainingInterrupted

__all__ = [
    "TrainConfig",
    "TrainResult",
    "TrainingDivergedError",
    "TrainingFailedError",
    "TrainingInterrupted",
    "check_training",
    "rehearse_step",
    "train",
]

"""The section ``data:`` that belongs to a checkpoint, by the number of its classes."""

from typing import Any

from crfnet.labels import DATASET_CLASSES

__all__ = ["data_section"]


def data_section(num_classes: int) -> dict[str, Any]:
    """The public data set that has so many classes; else ``folders``, with numbers for names.

    So that a command finds as many classes as the checkpoint has; where its data lie is for the user to say.
    """
    for name, classes in DATASET_CLASSES.items():
        if name != "toy" and len(classes.names) == num_classes:
            return {"name": name}
    return {"name": "folders", "classes": [f"class {label}" for label in range(num_classes)]}

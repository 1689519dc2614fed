"""Configurations of networks from keys alone, each put where it belongs."""

from dataclasses import fields

from crfnet.backbones import ResNetOptions, VGGOptions
from crfnet.config.schema import build
from crfnet.models import VARIANTS, ModelConfig


def model_config(variant: str = "deeplab_v2", **keys: object) -> ModelConfig:
    """What a file with these keys stands for, those of the variant in its section."""
    given: dict[str, object] = {"variant": variant}
    sections = {variant: VARIANTS[variant], "resnet": ResNetOptions, "vgg": VGGOptions}
    common = {field.name for field in fields(ModelConfig)}
    for key, value in keys.items():
        homes = [name for name, kind in sections.items() if key in {field.name for field in fields(kind)}]
        name = homes[0] if homes else variant
        if key in common:
            given[key] = value
        else:
            given.setdefault(name, {})[key] = value
    return build(ModelConfig, given, "model.")


def refuse(config: object, changes: dict[str, object]) -> None:
    """Check a configuration with these values, which the type checker of the tests would refuse first."""
    for name, value in changes.items():
        object.__setattr__(config, name, value)
    config.__post_init__()

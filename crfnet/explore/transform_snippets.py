"""The widths of a domain transform that were found by hand as text to paste: YAML and Python."""

from collections.abc import Callable

from crfnet.domain_transform import DomainTransformConfig
from crfnet.domain_transform.config_file import domain_transform_text

__all__ = ["TRANSFORM_SNIPPETS", "transform_as_python", "transform_as_yaml"]


def transform_as_yaml(config: DomainTransformConfig, num_classes: int) -> str:
    """The file that `save` writes: for ``--crf`` of every command."""
    del num_classes
    return domain_transform_text(config)


def transform_as_python(config: DomainTransformConfig, num_classes: int) -> str:
    """The layer, built and applied."""
    widths = f"sigma_s={config.sigma_s!r}, sigma_r={config.sigma_r!r}, iterations={config.iterations}"
    return (
        "from crfnet.domain_transform import DomainTransform, DomainTransformConfig\n\n"
        + f"config = DomainTransformConfig({widths})\n"
        + "transform = DomainTransform(config).eval()\n"
        + f"# logits (b, {num_classes}, h, w) of any network, image (b, 3, h, w) RGB in 0..255\n"
        + "labels = transform(logits, image).argmax(1)\n"
    )


#: Text of a configuration and a number of classes, by what it is for.
TRANSFORM_SNIPPETS: dict[str, Callable[[DomainTransformConfig, int], str]] = {
    "YAML": transform_as_yaml,
    "Python": transform_as_python,
}

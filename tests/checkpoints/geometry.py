"""Stride, padding and dilation of every convolution of the public networks, read off their own code.

A line is a pattern of names, here ours, and kernel, stride, padding, dilation. A 1x1 convolution that no line
names has stride 1 and no padding. Units of MobileNetV2 are padded before their first 1x1 convolution, so that
the 3x3 one itself has no padding.
"""

import re

__all__ = ["TABLES", "Geometry", "expected"]

#: Kernel, stride, padding, dilation.
Geometry = tuple[int, int, int, int]

_RESNET_START = """
    backbone.conv1 7 2 3 1
    backbone.layer1.[012].conv2 3 1 1 1
    backbone.layer2.0.downsample.0 1 2 0 1
    backbone.layer2.0.conv2 3 2 1 1
    backbone.layer2.[123].conv2 3 1 1 1
"""
#: Stage 3 with its stride, at output stride 16.
_STRIDED_LAYER3 = r"""
    backbone.layer3.0.downsample.0 1 2 0 1
    backbone.layer3.0.conv2 3 2 1 1
    backbone.layer3.[1-9]\d?.conv2 3 1 1 1
"""


def _aspp(*rates: int) -> str:
    return "".join(f"\naspp.branches.{i}.conv 3 1 {rate} {rate}" for i, rate in enumerate(rates, start=1))


_EXTRA = """
    extra.conv 3 1 1 1
"""
_ONE_DECODER_CONVOLUTION = """
    decoder.refine.conv2.0.conv 3 1 1 1
"""
_TWO_DECODER_CONVOLUTIONS = """
    decoder.refine.conv2.[01].conv 3 1 1 1
"""

# torchvision and VainF: the first unit of a dilated stage keeps the dilation from before it.
_TV_8 = (
    _RESNET_START
    + r"""
    backbone.layer3.0.conv2 3 1 1 1
    backbone.layer3.[1-9]\d?.conv2 3 1 2 2
    backbone.layer4.0.conv2 3 1 2 2
    backbone.layer4.[12].conv2 3 1 4 4
"""
)
_TV_16 = (
    _RESNET_START
    + _STRIDED_LAYER3
    + """
    backbone.layer4.0.conv2 3 1 1 1
    backbone.layer4.[12].conv2 3 1 2 2
"""
)

# jfzhang95: every unit of a dilated stage is dilated, and the last stage has multi-grid 1, 2, 4.
_JF_RESNET_8 = (
    _RESNET_START
    + r"""
    backbone.layer3.\d+.conv2 3 1 2 2
    backbone.layer4.0.conv2 3 1 4 4
    backbone.layer4.1.conv2 3 1 8 8
    backbone.layer4.2.conv2 3 1 16 16
"""
)
_JF_RESNET_16 = (
    _RESNET_START
    + _STRIDED_LAYER3
    + """
    backbone.layer4.0.conv2 3 1 2 2
    backbone.layer4.1.conv2 3 1 4 4
    backbone.layer4.2.conv2 3 1 8 8
"""
)
_XCEPTION_START = """
    backbone.conv1 3 2 1 1
    backbone.conv2 3 1 1 1
    backbone.block[12].skip 1 2 0 1
    backbone.block[12].rep.[03].conv1 3 1 1 1
    backbone.block[12].rep.6.conv1 3 2 1 1
    backbone.block3.rep.[14].conv1 3 1 1 1
    backbone.block20.rep.7.conv1 3 1 1 1
"""
_XCEPTION_8 = (
    _XCEPTION_START
    + r"""
    backbone.block3.rep.7.conv1 3 1 1 1
    backbone.block([4-9]|1\d).rep.[147].conv1 3 1 2 2
    backbone.block20.rep.[14].conv1 3 1 2 2
    backbone.conv[345].conv1 3 1 4 4
"""
)
_XCEPTION_16 = (
    _XCEPTION_START
    + r"""
    backbone.block3.skip 1 2 0 1
    backbone.block3.rep.7.conv1 3 2 1 1
    backbone.block([4-9]|1\d).rep.[147].conv1 3 1 1 1
    backbone.block20.rep.[14].conv1 3 1 1 1
    backbone.conv[345].conv1 3 1 2 2
"""
)
_MOBILE_START = """
    backbone.features.1.conv.0.0 3 1 0 1
    backbone.features.2.conv.1.0 3 2 0 1
    backbone.features.3.conv.1.0 3 1 0 1
    backbone.features.4.conv.1.0 3 2 0 1
    backbone.features.[56].conv.1.0 3 1 0 1
"""
_PADDED_STEM, _UNPADDED_STEM = "\nbackbone.features.0.0 3 2 1 1", "\nbackbone.features.0.0 3 2 0 1"
_JF_MOBILE_8 = (
    _MOBILE_START
    + _PADDED_STEM
    + """
    backbone.features.([789]|10).conv.1.0 3 1 0 1
    backbone.features.1[1-6].conv.1.0 3 1 0 2
    backbone.features.17.conv.1.0 3 1 0 4
"""
)
_JF_MOBILE_16 = (
    _MOBILE_START
    + _PADDED_STEM
    + """
    backbone.features.7.conv.1.0 3 2 0 1
    backbone.features.([89]|1[0-6]).conv.1.0 3 1 0 1
    backbone.features.17.conv.1.0 3 1 0 2
"""
)
_VAINF_MOBILE_8 = (
    _MOBILE_START
    + _UNPADDED_STEM
    + """
    backbone.features.7.conv.1.0 3 1 0 1
    backbone.features.([89]|1[0-4]).conv.1.0 3 1 0 2
    backbone.features.1[567].conv.1.0 3 1 0 4
"""
)
_VAINF_MOBILE_16 = (
    _MOBILE_START
    + _UNPADDED_STEM
    + """
    backbone.features.7.conv.1.0 3 2 0 1
    backbone.features.([89]|1[0-4]).conv.1.0 3 1 0 1
    backbone.features.1[567].conv.1.0 3 1 0 2
"""
)

# kazuto1011: strides on the 1x1 convolutions, every 3x3 one of a dilated stage dilated.
_KAZUTO = r"""
    backbone.conv1 7 2 3 1
    backbone.layer[12].\d.conv2 3 1 1 1
    backbone.layer2.0.(conv1|downsample.0) 1 2 0 1
    backbone.layer3.\d+.conv2 3 1 2 2
    backbone.layer4.\d.conv2 3 1 4 4
    head.branches.0.fc8 3 1 6 6
    head.branches.1.fc8 3 1 12 12
    head.branches.2.fc8 3 1 18 18
    head.branches.3.fc8 3 1 24 24
"""

# torchvision's MobileNetV3-Large, dilated: 5x5 convolutions among its depthwise ones.
_TV_MOBILE = """
    backbone.features.0.0 3 2 1 1
    backbone.features.1.block.0.0 3 1 1 1
    backbone.features.2.block.1.0 3 2 1 1
    backbone.features.3.block.1.0 3 1 1 1
    backbone.features.4.block.1.0 5 2 2 1
    backbone.features.[56].block.1.0 5 1 2 1
    backbone.features.7.block.1.0 3 2 1 1
    backbone.features.([89]|1[012]).block.1.0 3 1 1 1
    backbone.features.1[345].block.1.0 5 1 4 2
"""

#: By layout, network (backbone) and output stride.
TABLES: dict[tuple[str, str, int], str] = {
    ("torchvision", "resnet", 8): _TV_8 + _aspp(12, 24, 36) + _EXTRA,
    ("torchvision", "mobilenet_v3_large", 16): _TV_MOBILE + _aspp(12, 24, 36) + _EXTRA,
    ("vainf-v3", "resnet", 8): _TV_8 + _aspp(12, 24, 36) + _EXTRA,
    ("vainf-v3", "resnet", 16): _TV_16 + _aspp(6, 12, 18) + _EXTRA,
    ("vainf-v3plus", "resnet", 8): _TV_8 + _aspp(12, 24, 36) + _ONE_DECODER_CONVOLUTION,
    ("vainf-v3plus", "resnet", 16): _TV_16 + _aspp(6, 12, 18) + _ONE_DECODER_CONVOLUTION,
    ("vainf-v3plus", "mobilenet_v2", 8): _VAINF_MOBILE_8 + _aspp(12, 24, 36) + _ONE_DECODER_CONVOLUTION,
    ("vainf-v3plus", "mobilenet_v2", 16): _VAINF_MOBILE_16 + _aspp(6, 12, 18) + _ONE_DECODER_CONVOLUTION,
    ("jfzhang95", "resnet", 8): _JF_RESNET_8 + _aspp(12, 24, 36) + _TWO_DECODER_CONVOLUTIONS,
    ("jfzhang95", "resnet", 16): _JF_RESNET_16 + _aspp(6, 12, 18) + _TWO_DECODER_CONVOLUTIONS,
    ("jfzhang95", "xception", 8): _XCEPTION_8 + _aspp(12, 24, 36) + _TWO_DECODER_CONVOLUTIONS,
    ("jfzhang95", "xception", 16): _XCEPTION_16 + _aspp(6, 12, 18) + _TWO_DECODER_CONVOLUTIONS,
    ("jfzhang95", "mobilenet_v2", 8): _JF_MOBILE_8 + _aspp(12, 24, 36) + _TWO_DECODER_CONVOLUTIONS,
    ("jfzhang95", "mobilenet_v2", 16): _JF_MOBILE_16 + _aspp(6, 12, 18) + _TWO_DECODER_CONVOLUTIONS,
    ("kazuto1011", "resnet", 8): _KAZUTO,
}


def expected(table: str, name: str) -> Geometry:
    """Of one convolution.

    Raises:
        AssertionError: two lines of the table name it.
    """
    lines = (line.rsplit(maxsplit=4) for line in table.splitlines() if line.strip())
    found = [
        (int(kernel), int(stride), int(padding), int(dilation))
        for pattern, kernel, stride, padding, dilation in lines
        if re.fullmatch(pattern.strip().replace(".", r"\."), name)
    ]
    assert len(found) < 2, name
    return found[0] if found else (1, 1, 0, 1)

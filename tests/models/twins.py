"""Public DeepLab implementations, narrow: state dicts with their names, and forward passes on those names.

Written from their published descriptions, function by function, without any module of this library.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

#: An eighth of the published channels, as ``width=0.125`` rounds them.
STEM, PLANES, ASPP, LOW, CLASSES = 8, (8, 16, 32, 64), 32, 8, 5
DEPTHS = (3, 4, 6, 3)

State = dict[str, Tensor]


def add_conv(state: State, name: str, out: int, channels: int, kernel: int, *, bias: bool = False) -> None:
    state[f"{name}.weight"] = torch.randn(out, channels, kernel, kernel) * (2 / (channels * kernel**2)) ** 0.5
    if bias:
        state[f"{name}.bias"] = torch.randn(out)


def add_bn(state: State, name: str, channels: int) -> None:
    state[f"{name}.weight"] = torch.rand(channels) + 0.5
    state[f"{name}.bias"] = torch.randn(channels) * 0.2
    state[f"{name}.running_mean"] = torch.randn(channels) * 0.2
    state[f"{name}.running_var"] = torch.rand(channels) + 0.5
    state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def conv(state: State, name: str, x: Tensor, stride: int = 1, dilation: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    padding = dilation * (weight.shape[2] // 2)
    return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, padding, dilation)


def bn(state: State, name: str, x: Tensor) -> Tensor:
    names = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(state[f"{name}.{part}"] for part in names), eps=1e-5)


def add_resnet(state: State, unit: str, parts: Sequence[tuple[str, str]]) -> None:
    """Units ``unit.format(stage, number)``; ``parts``: names of the three convolutions and the shortcut."""
    channels = STEM
    for stage, (planes, depth) in enumerate(zip(PLANES, DEPTHS, strict=True)):
        for number in range(depth):
            name = unit.format(stage, number)
            sizes = [(planes, channels, 1), (planes, planes, 3), (4 * planes, planes, 1)]
            sizes += [(4 * planes, channels, 1)] if number == 0 else []
            for (convolution, norm), size in zip(parts, sizes, strict=False):
                add_conv(state, f"{name}.{convolution}", *size)
                add_bn(state, f"{name}.{norm}", size[0])
            channels = 4 * planes


# kazuto1011/deeplab-pytorch -------------------------------------------------------------------------------

KAZUTO_PARTS = [(f"{p}.conv", f"{p}.bn") for p in ("reduce", "conv3x3", "increase", "shortcut")]


def kazuto_state(prefix: str = "base.") -> State:
    state: State = {}
    add_conv(state, "layer1.conv1.conv", STEM, 3, 7)
    add_bn(state, "layer1.conv1.bn", STEM)
    add_resnet(state, "layer{0}.block{1}", KAZUTO_PARTS)
    # Its stages count from 2, its units from 1.
    shifted = {}
    for name, value in state.items():
        if ".block" in name:
            stage, block, rest = name.split(".", 2)
            name = f"layer{int(stage[5:]) + 2}.block{int(block[5:]) + 1}.{rest}"
        shifted[name] = value
    for i in range(4):
        add_conv(shifted, f"aspp.c{i}", CLASSES, 4 * PLANES[-1], 3, bias=True)
    return {prefix + name: value for name, value in shifted.items()}


def kazuto(
    state: State,
    image: Tensor,
    *,
    multi_scale: bool,
    recompute: bool = True,
    rates: Sequence[int] = (6, 12, 18, 24),
) -> Tensor:
    """Logits at image size of RGB images in 0..255; ``recompute`` as PyTorch before 1.6 resized."""
    mean = torch.tensor([104.008, 116.669, 122.675]).view(3, 1, 1)
    x = image.flip(1).float() - mean
    state = {name.removeprefix("base."): value for name, value in state.items()}
    logits = _kazuto_one(state, x, rates)
    if multi_scale:
        maps = [logits]
        for scale in (0.5, 0.75):
            small = F.interpolate(
                x, scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=recompute
            )
            one = _kazuto_one(state, small, rates)
            maps.append(F.interpolate(one, logits.shape[2:], mode="bilinear", align_corners=False))
        logits = torch.stack(maps).max(0).values
    return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=False)


def _kazuto_one(s: State, x: Tensor, rates: Sequence[int]) -> Tensor:
    x = F.relu(bn(s, "layer1.conv1.bn", conv(s, "layer1.conv1.conv", x, 2)))
    x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
    for layer, depth, stride, rate in zip((2, 3, 4, 5), DEPTHS, (1, 2, 1, 1), (1, 1, 2, 4), strict=True):
        for number in range(1, depth + 1):
            name, step = f"layer{layer}.block{number}", stride if number == 1 else 1
            h = F.relu(bn(s, f"{name}.reduce.bn", conv(s, f"{name}.reduce.conv", x, step)))
            h = F.relu(bn(s, f"{name}.conv3x3.bn", conv(s, f"{name}.conv3x3.conv", h, 1, rate)))
            h = bn(s, f"{name}.increase.bn", conv(s, f"{name}.increase.conv", h))
            if number == 1:
                x = bn(s, f"{name}.shortcut.bn", conv(s, f"{name}.shortcut.conv", x, step))
            x = F.relu(h + x)
    return sum(conv(s, f"aspp.c{i}", x, 1, r) for i, r in enumerate(rates))  # type: ignore[return-value]


# torchvision, and what VainF and jfzhang95 took over ------------------------------------------------------

TV_PARTS = [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("downsample.0", "downsample.1")]


def backbone_state() -> State:
    state: State = {}
    add_conv(state, "backbone.conv1", STEM, 3, 7)
    add_bn(state, "backbone.bn1", STEM)
    add_resnet(state, "backbone.layer{0}.{1}", TV_PARTS)
    shifted = {}
    for name, value in state.items():
        for stage in (3, 2, 1, 0):
            name = name.replace(f"backbone.layer{stage}.", f"backbone.layer{stage + 1}.")
            if f"backbone.layer{stage + 1}." in name:
                break
        shifted[name] = value
    return shifted


def backbone(
    s: State, image: Tensor, rates: dict[int, Sequence[int]], strides: Sequence[int]
) -> list[Tensor]:
    """Outputs of the four stages; ``rates``: dilations of a stage's units, 1 where it is not named."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = (image.float() / 255 - mean) / std
    x = F.relu(bn(s, "backbone.bn1", conv(s, "backbone.conv1", x, 2)))
    x = F.max_pool2d(x, 3, 2, 1)
    outputs = []
    for stage, (depth, stride) in enumerate(zip(DEPTHS, strides, strict=True), start=1):
        for number in range(depth):
            name, step = f"backbone.layer{stage}.{number}", stride if number == 0 else 1
            rate = rates.get(stage, [1] * depth)[number]
            h = F.relu(bn(s, f"{name}.bn1", conv(s, f"{name}.conv1", x)))
            h = F.relu(bn(s, f"{name}.bn2", conv(s, f"{name}.conv2", h, step, rate)))
            h = bn(s, f"{name}.bn3", conv(s, f"{name}.conv3", h))
            if number == 0:
                x = bn(s, f"{name}.downsample.1", conv(s, f"{name}.downsample.0", x, step))
            x = F.relu(h + x)
        outputs.append(x)
    return outputs


def add_tv_aspp(state: State, prefix: str) -> None:
    channels = 4 * PLANES[-1]
    for i, kernel in enumerate((1, 3, 3, 3)):
        add_conv(state, f"{prefix}convs.{i}.0", ASPP, channels, kernel)
        add_bn(state, f"{prefix}convs.{i}.1", ASPP)
    add_conv(state, f"{prefix}convs.4.1", ASPP, channels, 1)
    add_bn(state, f"{prefix}convs.4.2", ASPP)
    add_conv(state, f"{prefix}project.0", ASPP, 5 * ASPP, 1)
    add_bn(state, f"{prefix}project.1", ASPP)


def tv_aspp(s: State, prefix: str, x: Tensor, rates: Sequence[int]) -> Tensor:
    parts = [
        F.relu(bn(s, f"{prefix}convs.{i}.1", conv(s, f"{prefix}convs.{i}.0", x, 1, rate)))
        for i, rate in enumerate((1, *rates))
    ]
    mean = F.relu(bn(s, f"{prefix}convs.4.2", conv(s, f"{prefix}convs.4.1", F.adaptive_avg_pool2d(x, 1))))
    parts.append(F.interpolate(mean, x.shape[2:], mode="bilinear", align_corners=False))
    return F.relu(bn(s, f"{prefix}project.1", conv(s, f"{prefix}project.0", torch.cat(parts, 1))))


def v3_state(prefix: str) -> State:
    """DeepLab v3 of torchvision (prefix ``classifier.``) and of VainF (``classifier.classifier.``)."""
    state = backbone_state()
    add_tv_aspp(state, f"{prefix}0.")
    add_conv(state, f"{prefix}1", ASPP, ASPP, 3)
    add_bn(state, f"{prefix}2", ASPP)
    add_conv(state, f"{prefix}4", CLASSES, ASPP, 1, bias=True)
    return state


def v3(s: State, prefix: str, image: Tensor, output_stride: int) -> Tensor:
    if output_stride == 8:
        strides, rates, aspp = (1, 2, 1, 1), {3: (1, 2, 2, 2, 2, 2), 4: (2, 4, 4)}, (12, 24, 36)
    else:
        strides, rates, aspp = (1, 2, 2, 1), {4: (1, 2, 2)}, (6, 12, 18)
    x = tv_aspp(s, f"{prefix}0.", backbone(s, image, rates, strides)[-1], aspp)
    x = conv(s, f"{prefix}4", F.relu(bn(s, f"{prefix}2", conv(s, f"{prefix}1", x))))
    return F.interpolate(x, image.shape[2:], mode="bilinear", align_corners=False)


def vainf_plus_state() -> State:
    state = backbone_state()
    add_conv(state, "classifier.project.0", LOW, 4 * PLANES[0], 1)
    add_bn(state, "classifier.project.1", LOW)
    add_tv_aspp(state, "classifier.aspp.")
    add_conv(state, "classifier.classifier.0", ASPP, LOW + ASPP, 3)
    add_bn(state, "classifier.classifier.1", ASPP)
    add_conv(state, "classifier.classifier.3", CLASSES, ASPP, 1, bias=True)
    return state


def vainf_plus(s: State, image: Tensor, output_stride: int = 16) -> Tensor:
    if output_stride == 8:
        low, *_, out = backbone(s, image, {3: (1, 2, 2, 2, 2, 2), 4: (2, 4, 4)}, (1, 2, 1, 1))
    else:
        low, *_, out = backbone(s, image, {4: (1, 2, 2)}, (1, 2, 2, 1))
    return vainf_head(s, low, out, image, output_stride)


def vainf_mobile(s: State, image: Tensor, output_stride: int = 16) -> Tensor:
    return vainf_head(s, *mobile(s, image, "vainf", output_stride), image, output_stride)


def vainf_head(s: State, low: Tensor, out: Tensor, image: Tensor, output_stride: int) -> Tensor:
    low = F.relu(bn(s, "classifier.project.1", conv(s, "classifier.project.0", low)))
    out = tv_aspp(s, "classifier.aspp.", out, [rate * 16 // output_stride for rate in (6, 12, 18)])
    out = F.interpolate(out, low.shape[2:], mode="bilinear", align_corners=False)
    x = conv(s, "classifier.classifier.0", torch.cat([low, out], 1))
    x = conv(s, "classifier.classifier.3", F.relu(bn(s, "classifier.classifier.1", x)))
    return F.interpolate(x, image.shape[2:], mode="bilinear", align_corners=False)


def jfzhang_state(*, dropout: bool = True) -> State:
    state, channels = backbone_state(), 4 * PLANES[-1]
    for i, kernel in enumerate((1, 3, 3, 3), start=1):
        add_conv(state, f"aspp.aspp{i}.atrous_conv", ASPP, channels, kernel)
        add_bn(state, f"aspp.aspp{i}.bn", ASPP)
    add_conv(state, "aspp.global_avg_pool.1", ASPP, channels, 1)
    add_bn(state, "aspp.global_avg_pool.2", ASPP)
    add_conv(state, "aspp.conv1", ASPP, 5 * ASPP, 1)
    add_bn(state, "aspp.bn1", ASPP)
    add_conv(state, "decoder.conv1", LOW, 4 * PLANES[0], 1)
    add_bn(state, "decoder.bn1", LOW)
    second, last = (4, 8) if dropout else (3, 6)
    add_conv(state, "decoder.last_conv.0", ASPP, ASPP + LOW, 3)
    add_bn(state, "decoder.last_conv.1", ASPP)
    add_conv(state, f"decoder.last_conv.{second}", ASPP, ASPP, 3)
    add_bn(state, f"decoder.last_conv.{second + 1}", ASPP)
    add_conv(state, f"decoder.last_conv.{last}", CLASSES, ASPP, 1, bias=True)
    return state


def jfzhang(s: State, image: Tensor, output_stride: int = 16) -> Tensor:
    """With ResNet, multi-grid 1, 2, 4 and no unit of a dilated stage without dilation."""
    if output_stride == 8:
        low, *_, out = backbone(s, image, {3: (2,) * 6, 4: (4, 8, 16)}, (1, 2, 1, 1))
    else:
        low, *_, out = backbone(s, image, {4: (2, 4, 8)}, (1, 2, 2, 1))
    return jfzhang_head(s, low, out, image, output_stride)


XCEPTION = {32: 8, 64: 8, 128: 16, 256: 32, 728: 88, 1024: 128, 1536: 192, 2048: 256}
#: Of a block: channels, number of its first layer (1 behind a leading ReLU), stride, rates; at 16 and at 8.
BLOCKS = {
    1: ((64, 128, 128, 128), 0, 2, (1, 1, 1)),
    2: ((128, 256, 256, 256), 0, 2, (1, 1, 1)),
    3: ((256, 728, 728, 728), 1, 2, (1, 1, 1)),
    **dict.fromkeys(range(4, 20), ((728,) * 4, 1, 1, (1, 1, 1))),
    20: ((728, 728, 1024, 1024), 1, 1, (1, 1, 1)),
}
BLOCKS_8 = {
    **BLOCKS,
    3: ((256, 728, 728, 728), 1, 1, (1, 1, 1)),
    **dict.fromkeys(range(4, 20), ((728,) * 4, 1, 1, (2, 2, 2))),
    20: ((728, 728, 1024, 1024), 1, 1, (2, 2, 1)),
}


def jfzhang_xception_state() -> State:
    state: State = {}

    def separable(name: str, channels: int, out: int) -> None:
        add_conv(state, f"{name}.conv1", XCEPTION[channels], 1, 3)
        add_bn(state, f"{name}.bn", XCEPTION[channels])
        add_conv(state, f"{name}.pointwise", XCEPTION[out], XCEPTION[channels], 1)

    for number, channels, out in ((1, None, 32), (2, 32, 64)):
        add_conv(
            state, f"backbone.conv{number}", XCEPTION[out], 3 if channels is None else XCEPTION[channels], 3
        )
        add_bn(state, f"backbone.bn{number}", XCEPTION[out])
    for number, (sizes, layer, stride, _) in BLOCKS.items():
        name = f"backbone.block{number}"
        if sizes[0] != sizes[-1] or stride != 1:
            add_conv(state, f"{name}.skip", XCEPTION[sizes[-1]], XCEPTION[sizes[0]], 1)
            add_bn(state, f"{name}.skipbn", XCEPTION[sizes[-1]])
        for i in range(3):
            separable(f"{name}.rep.{layer + 3 * i}", sizes[i], sizes[i + 1])
            add_bn(state, f"{name}.rep.{layer + 3 * i + 1}", XCEPTION[sizes[i + 1]])
    for number, channels, out in ((3, 1024, 1536), (4, 1536, 1536), (5, 1536, 2048)):
        separable(f"backbone.conv{number}", channels, out)
        add_bn(state, f"backbone.bn{number}", XCEPTION[out])
    head = {k: v for k, v in jfzhang_state().items() if not k.startswith("backbone.")}
    add_conv(head, "decoder.conv1", LOW, XCEPTION[128], 1)
    return state | head


def jfzhang_xception(s: State, image: Tensor, output_stride: int = 16) -> Tensor:
    """His ReLUs work in place, which the shortcuts see."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)

    def separable(name: str, x: Tensor, stride: int = 1, rate: int = 1) -> Tensor:
        x = F.conv2d(
            F.pad(x, (rate,) * 4), s[f"{name}.conv1.weight"], None, stride, 0, rate, groups=x.shape[1]
        )
        return conv(s, f"{name}.pointwise", bn(s, f"{name}.bn", x))

    x = (image.float() / 255 - mean) / std
    x = F.relu(bn(s, "backbone.bn1", conv(s, "backbone.conv1", x, 2)))
    x = F.relu(bn(s, "backbone.bn2", conv(s, "backbone.conv2", x)))
    low = x
    for number, (_, layer, stride, rates) in (BLOCKS_8 if output_stride == 8 else BLOCKS).items():
        name, h = f"backbone.block{number}", x
        for i in range(3):
            if i or layer:
                h = F.relu_(h)
            h = separable(f"{name}.rep.{layer + 3 * i}", h, stride if i == 2 else 1, rates[i])
            h = bn(s, f"{name}.rep.{layer + 3 * i + 1}", h)
        if f"{name}.skip.weight" in s:
            x = bn(s, f"{name}.skipbn", conv(s, f"{name}.skip", x, stride))
        x = h + x
        if number == 1:
            x = low = F.relu(x)
    x = F.relu(x)
    for number in (3, 4, 5):
        x = separable(f"backbone.conv{number}", x, 1, 32 // output_stride)
        x = F.relu(bn(s, f"backbone.bn{number}", x))
    return jfzhang_head(s, low, x, image, output_stride)


#: MobileNetV2 an eighth as wide, as torchvision rounds it: expansion, channels, units, stride.
V2 = [(1, 8, 1, 1), (6, 8, 2, 2), (6, 8, 3, 2), (6, 8, 4, 2), (6, 16, 3, 1), (6, 24, 3, 2), (6, 40, 1, 1)]


def mobile_units() -> list[tuple[int, int, int, int, bool]]:
    """Stage, input channels, hidden ones, output channels, whether it is the stage's first."""
    units, channels = [], 8
    for stage, (expand, out, depth, _) in enumerate(V2):
        for number in range(depth):
            units.append((stage, channels, expand * channels, out, number == 0))
            channels = out
    return units


def mobile_state(by: str) -> State:
    """``backbone.`` of both; his layers in a row (jfzhang95), or grouped and in two halves (VainF)."""
    state: State = {}
    half = "backbone.features" if by == "jfzhang95" else "backbone.low_level_features"
    add_conv(state, f"{half}.0.0", 8, 3, 3)
    add_bn(state, f"{half}.0.1", 8)
    for i, (stage, channels, hidden, out, _) in enumerate(mobile_units(), start=1):
        half = "low_level_features" if i < 4 else "high_level_features"
        name = f"backbone.{'features' if by == 'jfzhang95' else half}.{i}.conv"
        sizes = [(hidden, channels, 1)] * (V2[stage][0] != 1) + [(hidden, 1, 3), (out, hidden, 1)]
        for number, size in enumerate(sizes):
            conv_name, bn_name = mobile_names(by, number, len(sizes))
            add_conv(state, f"{name}.{conv_name}", *size)
            add_bn(state, f"{name}.{bn_name}", size[0])
    if by == "jfzhang95":
        for name in list(state):
            unit = int(name.split(".")[2])
            half = "low_level_features" if unit < 4 else "high_level_features"
            state[name.replace("features", half, 1)] = state[name]
    return state


def mobile_names(by: str, number: int, count: int) -> tuple[str, str]:
    if by == "jfzhang95":
        return str(3 * number), str(3 * number + 1)
    if number == count - 1:
        return str(number), str(number + 1)
    return f"{number}.0", f"{number}.1"


#: Of its seven stages, at output strides 16 and 8: the first unit's stride, its dilation, that of the others.
V2_GEOMETRY = {
    ("vainf", 16): ((1, 2, 2, 2, 1, 1, 1), (1, 1, 1, 1, 1, 1, 2), (1, 1, 1, 1, 1, 2, 2)),
    ("vainf", 8): ((1, 2, 2, 1, 1, 1, 1), (1, 1, 1, 1, 2, 2, 4), (1, 1, 1, 2, 2, 4, 4)),
    ("jfzhang95", 16): ((1, 2, 2, 2, 1, 1, 1), (1, 1, 1, 1, 1, 1, 2), (1, 1, 1, 1, 1, 1, 2)),
    ("jfzhang95", 8): ((1, 2, 2, 1, 1, 1, 1), (1, 1, 1, 1, 2, 2, 4), (1, 1, 1, 1, 2, 2, 4)),
}


def mobile(s: State, image: Tensor, by: str, output_stride: int) -> tuple[Tensor, Tensor]:
    """Low-level features and the last ones."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x = (image.float() / 255 - mean) / std
    half = "backbone.features" if by == "jfzhang95" else "backbone.low_level_features"
    padding = 1 if by == "jfzhang95" else 0
    x = F.relu6(bn(s, f"{half}.0.1", F.conv2d(x, s[f"{half}.0.0.weight"], None, 2, padding)))
    outputs = []
    strides, first_rates, rates = V2_GEOMETRY[by, output_stride]
    for i, (stage, channels, _, out, first) in enumerate(mobile_units(), start=1):
        half = "low_level_features" if i < 4 else "high_level_features"
        name = f"backbone.{'features' if by == 'jfzhang95' else half}.{i}.conv"
        stride, rate = (strides[stage], first_rates[stage]) if first else (1, rates[stage])
        h = F.pad(x, (rate,) * 4)
        count = 2 if V2[stage][0] == 1 else 3
        for number in range(count):
            conv_name, bn_name = mobile_names(by, number, count)
            weight = s[f"{name}.{conv_name}.weight"]
            if number == count - 2:
                h = F.conv2d(h, weight, None, stride, 0, rate, groups=h.shape[1])
            else:
                h = F.conv2d(h, weight)
            h = bn(s, f"{name}.{bn_name}", h)
            h = F.relu6(h) if number < count - 1 else h
        residual = V2[stage][3] == 1 or not first
        x = x + h if residual and channels == out else h
        outputs.append(x)
    return outputs[2], x


def vainf_mobile_state() -> State:
    state = {k: v for k, v in vainf_plus_state().items() if not k.startswith("backbone.")}
    state |= mobile_state("vainf")
    add_conv(state, "classifier.project.0", LOW, 8, 1)
    for i, kernel in enumerate((1, 3, 3, 3)):
        add_conv(state, f"classifier.aspp.convs.{i}.0", ASPP, 40, kernel)
    add_conv(state, "classifier.aspp.convs.4.1", ASPP, 40, 1)
    return state


def jfzhang_mobile_state() -> State:
    state = {k: v for k, v in jfzhang_state().items() if not k.startswith("backbone.")}
    state |= mobile_state("jfzhang95")
    add_conv(state, "decoder.conv1", LOW, 8, 1)
    for i, kernel in enumerate((1, 3, 3, 3), start=1):
        add_conv(state, f"aspp.aspp{i}.atrous_conv", ASPP, 40, kernel)
    add_conv(state, "aspp.global_avg_pool.1", ASPP, 40, 1)
    return state


def jfzhang_mobile(s: State, image: Tensor, output_stride: int = 16) -> Tensor:
    return jfzhang_head(s, *mobile(s, image, "jfzhang95", output_stride), image, output_stride)


def jfzhang_head(s: State, low: Tensor, out: Tensor, image: Tensor, output_stride: int) -> Tensor:
    parts = [
        F.relu(bn(s, f"aspp.aspp{i}.bn", conv(s, f"aspp.aspp{i}.atrous_conv", out, 1, rate)))
        for i, rate in enumerate((1, *(r * 16 // output_stride for r in (6, 12, 18))), start=1)
    ]
    mean = conv(s, "aspp.global_avg_pool.1", out.mean((2, 3), keepdim=True))
    parts.append(F.relu(bn(s, "aspp.global_avg_pool.2", mean)).expand_as(parts[0]))
    x = F.relu(bn(s, "aspp.bn1", conv(s, "aspp.conv1", torch.cat(parts, 1))))
    low = F.relu(bn(s, "decoder.bn1", conv(s, "decoder.conv1", low)))
    x = F.interpolate(x, low.shape[2:], mode="bilinear", align_corners=True)
    second, last = (4, 8) if "decoder.last_conv.8.weight" in s else (3, 6)
    x = F.relu(bn(s, "decoder.last_conv.1", conv(s, "decoder.last_conv.0", torch.cat([x, low], 1))))
    x = F.relu(bn(s, f"decoder.last_conv.{second + 1}", conv(s, f"decoder.last_conv.{second}", x)))
    x = conv(s, f"decoder.last_conv.{last}", x)
    return F.interpolate(x, image.shape[2:], mode="bilinear", align_corners=True)

"""Launches every kernel once, at one shape with awkward sizes: what compute-sanitizer looks at.

    compute-sanitizer --tool memcheck python experiments/bench/gpu/launches.py

``--device cpu`` runs them in Triton's interpreter.
"""

import argparse
import os

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    from crfnet.crf.filters import ExactFilter
    from crfnet.kernels import using
    from crfnet.kernels.gpu import exact, gather, local, update

    torch.manual_seed(0)
    labels, entries = 21, 203
    with using("on"), torch.device(device):
        table = torch.randn(37, labels)
        indices, weights = torch.randint(0, 37, (entries,), dtype=torch.int32), torch.rand(entries)
        offsets = torch.tensor([0, 0, 3, 140, 140, 200, entries], dtype=torch.int32)
        for low in (torch.float32, torch.bfloat16):
            gather.gather_sum(table.to(low), indices, offsets, weights)
            gather.gather_rows(table.to(low), indices[:201].view(67, 3), weights[:201].view(67, 3))
            update.mean_field_update(table.to(low), table.to(low), weights[:37])
        update.mean_field_update(torch.randn(3, 1100), torch.randn(3, 1100))
        features, values = torch.randn(2, 5, 133), torch.rand(2, labels, 133)
        pairs = ExactFilter().operator(features)._pairs.listed
        exact.filter_values(values, pairs)
        exact.grad_features(values, values, pairs)
        values, features = values.unflatten(2, (7, 19)), features.unflatten(2, (7, 19))
        local.filter_values(values, features, 1)
        local.grad_features(values, values, features, 1)
    if device != "cpu":
        torch.cuda.synchronize()
    print("every kernel was launched")


if __name__ == "__main__":
    main()

"""A CRF put behind a trained network, or trained with it? All five arms, once for every training seed.

    python experiments/posthoc_vs_joint/run.py --seeds 0 1 2
    python experiments/posthoc_vs_joint/run.py --config configs/camvid/deeplab_v2_resnet18_aspp_s.yaml \
        --data.root CAMVID
    python experiments/posthoc_vs_joint/run.py --config configs/voc/deeplab_v3_mobilenetv2.yaml \
        --data.root VOC --checkpoint mobilenetv2.pt --arms unary,posthoc,joint --seeds 0 1 2

One `crfnet compare` a seed, into OUTPUT/seedN with a report of its own; with several seeds one report over
all of them, OUTPUT/report/report.html. All other options are those of `crfnet compare`. Started again, it
goes on where it was stopped.
"""

import argparse
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from crfnet.cli.main import main as crfnet


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,  # so that an error is one line
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", default=str(files("crfnet.pipeline") / "demo.yaml"), help="default: the toy set's"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="default: 0")
    default = Path("runs/posthoc_vs_joint")
    parser.add_argument("--output", type=Path, default=default, help="default: %(default)s")
    options, overrides = parser.parse_known_args(arguments)
    runs = {seed: str(options.output / f"seed{seed}") for seed in options.seeds}  # no seed twice
    for seed, run in runs.items():
        crfnet(["compare", options.config, "--seed", str(seed), "--output", run, "--resume", *overrides])
    if len(runs) > 1:
        crfnet(["report", *runs.values(), "--output", str(options.output / "report"), "--overwrite"])


if __name__ == "__main__":
    main()

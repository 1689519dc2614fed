"""The paper's search of the CRF's parameters on cached scores, then scores on the images it has not seen.

    python experiments/grid_search/run.py --scores SCORES --data.root CAMVID [--section.key VALUE ...]

Coarse to fine on the images that the config draws (OUTPUT/search); then the scores alone against the same
with the found CRF behind them on all other images (OUTPUT/evaluation/report.html: heat maps of the search,
table with intervals, trimap curves of both bands, gallery). Started again, it goes on where it was stopped.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from crfnet.cli.main import main as crfnet

CONFIG = Path(__file__).parents[2] / "configs/camvid/scores.yaml"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage=argparse.SUPPRESS,  # so that an error is one line
        allow_abbrev=False,
    )
    parser.add_argument("--config", default=str(CONFIG), help="ranges, rounds, images; default: CamVid's")
    parser.add_argument("--scores", required=True, help="folder of cached scores, or one .npz")
    parser.add_argument("--output", type=Path, default=Path("runs/grid_search"), help="default: %(default)s")
    options, overrides = parser.parse_known_args(arguments)
    given = ["--scores", options.scores, "--output", str(options.output), "--resume", *overrides]
    found = options.output / "search"
    crfnet(["search", options.config, *given])
    what = ["--crf", str(found / "best.yaml"), "--exclude", str(found / "images.txt")]
    crfnet(["evaluate", options.config, *what, *given])


if __name__ == "__main__":
    main()

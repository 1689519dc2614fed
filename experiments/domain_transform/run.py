"""The domain transform behind cached scores, as it is and searched, beside the scores alone and a dense CRF.

    python experiments/domain_transform/run.py --scores SCORES --crf best.yaml --data.root CAMVID
    python experiments/domain_transform/run.py --scores SCORES --data.name voc --data.root VOC \
        --search.images 100

Searches sigma_s and sigma_r on the images that the config draws (OUTPUT/search_domain_transform), and the
CRF's parameters on the same ones where `--crf` does not give them (OUTPUT/search); then scores five arms on
all other images: `unary`, the CRF and the transform as they are (`crf_default`, `dt_default`) and searched
(`posthoc`, `dt`), into OUTPUT/evaluation: report.html with intervals, trimap curves and costs. `--arms` takes
some of them. Started again, it goes on where it was stopped.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from crfnet.cli.main import main as crfnet
from crfnet.data import load_dataset
from crfnet.errors import InputError
from crfnet.pipeline.build import load_refinement, resolve_device
from crfnet.pipeline.digests import file_digest, text_digest
from crfnet.pipeline.evaluate_arm import evaluate_arm
from crfnet.pipeline.evaluate_split import read_ids
from crfnet.pipeline.measure_costs import measure_costs
from crfnet.pipeline.predictors import predictor_from_scores_and_config
from crfnet.pipeline.run_config import load_run
from crfnet.pipeline.run_folder import open_run
from crfnet.pipeline.samples import strip_samples
from crfnet.report import console_table, shown_images, write_report
from crfnet.score_cache import ScoreFolder
from crfnet.segmenter import build_refinement

CONFIG = Path(__file__).parents[2] / "configs/camvid/scores.yaml"
ARMS = ("unary", "crf_default", "posthoc", "dt_default", "dt")


def main(arguments: Sequence[str] | None = None) -> None:
    look = {"formatter_class": argparse.RawDescriptionHelpFormatter, "usage": argparse.SUPPRESS}
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, **look)
    parser.add_argument("--config", type=Path, default=CONFIG, help="ranges, images; default: CamVid's")
    parser.add_argument("--scores", type=Path, required=True, help="folder of cached scores, or one .npz")
    parser.add_argument("--crf", type=Path, help="best.yaml of a search; default: searched here")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=[*ARMS], help="the first is the base")
    default = Path("runs/domain_transform")
    parser.add_argument("--output", type=Path, default=default, help="default: %(default)s")
    options, overrides = parser.parse_known_args(arguments)
    given = [str(options.config), "--scores", str(options.scores), "--output", str(options.output)]
    crfnet(["search", *given, "--domain-transform", "--resume", *overrides])
    if options.crf is None and "posthoc" in options.arms:
        crfnet(["search", *given, "--resume", *overrides])
        options.crf = options.output / "search/best.yaml"
    try:
        evaluate(options, overrides)
    except InputError as error:
        parser.error(str(error))


def evaluate(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Score the arms on the images that neither search has seen."""
    run = load_run(options.config, overrides)
    run.set_threads()
    run = replace(run, output=options.output / "evaluation")
    dataset, scores = load_dataset(run.data, "val"), ScoreFolder(options.scores)
    found = {"posthoc": options.crf, "dt": options.output / "search_domain_transform/best.yaml"}
    lists = [path.parent / "images.txt" for path in found.values() if path is not None]
    searched = set().union(*(read_ids(dataset, path) for path in lists if path.is_file()))
    ids = [name for name in dataset.ids if name not in searched]
    behind = {name: load_refinement(found[name]) for name in options.arms if name in found}
    behind |= {"crf_default": run.crf, "dt_default": run.domain_transform}
    digests = {"choice of images": text_digest(ids), "scores": scores.digest(ids)}
    parameters = {name: {"parameters": file_digest(found[name])} for name in options.arms if name in found}
    device = resolve_device(run.device)
    command = shlex.join(["python", *sys.argv])
    with open_run(run, resume=True, overwrite=False, command=command, digests=digests) as facts:
        facts["data"] = f"{dataset.name}: {len(ids)} images of split {run.data.val!r}; {scores.path}"
        arms, builds = [], {}
        for name in options.arms:
            layer = None
            if name in behind:
                layer = build_refinement(behind[name], scores.num_classes).to(device)
            builds[name] = partial(
                predictor_from_scores_and_config, scores, behind.get(name), scores.num_classes, device
            )
            how = {"config": run.evaluation, "crf": layer, "digests": parameters.get(name, {})}
            arm = evaluate_arm(name, builds[name](), dataset, ids, run.output / name, **how)
            arms.append(replace(arm, search_ids=sorted(searched) if name in found else ()))
        arms = measure_costs(run.output / "_".join(("costs", *options.arms)), arms, builds, dataset)
        shown = shown_images(arms, run.pictures, run.evaluation)
        folders = {name: run.output / name for name in options.arms}
        what = {"title": "The domain transform beside a dense CRF", "facts": facts, "config": run.evaluation}
        look = {"class_names": dataset.classes, "palette": dataset.palette}
        strips = strip_samples(dataset, shown, folders)
        report = write_report(run.output, arms, strip_samples=strips, **what, **look)
        print(f"{console_table(arms, run.evaluation)}\n\nreport: {report}, report.html")


if __name__ == "__main__":
    main()

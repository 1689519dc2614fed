"""The report as a reader gets it: files, links, numbers, sentences."""

import dataclasses
import math
import re

import pytest
import torch
from PIL import Image

from crfnet.errors import InputError
from crfnet.evaluation.bootstrap import bootstrap
from crfnet.evaluation.confusion import metrics
from crfnet.evaluation.evaluator import Evaluation
from crfnet.evaluation.named_metrics import interval
from crfnet.labels import VOC_PALETTE
from crfnet.report import MADE_UP, console_table, largest_changes, read_report_json, shown_images
from crfnet.report.arms import DIFFERENCES, compared_pairs
from crfnet.report.document import Table
from crfnet.report.gallery import picture_pairs
from crfnet.report.results import border_band
from crfnet.report.tables import cost_table, fold_columns
from crfnet.report.trimap_names import about_band
from tests.evaluation.by_hand import paired_interval
from tests.report.factories import CLASSES, CONFIG, SHIFTS, make_arms, scene, with_folders, write


def test_links_lead_to_pictures(report):
    _, folder, text, _ = report
    links = re.findall(r"\]\(([^)]+)\)", text)
    pictures = ["trimap_void", "trimap_change", "classes", "class_gains", "strip", "errors", "energy"]
    pictures += ["search_posthoc", "training_joint"]
    assert {"scores.csv", *(f"{name}.png" for name in pictures)} == set(links)
    files = {file.name for file in folder.iterdir() if file.is_file()}
    assert files == {*links, "report.md", "report.html", "report.json"}
    for link in links:
        if link.endswith(".png"):
            with Image.open(folder / link) as picture:
                picture.load()
                assert min(picture.size) > (20 if link.startswith("search") else 300)


@pytest.mark.parametrize(
    ("element", "void", "change"),
    [
        ("square", "dilated by a square of side 2w+1, minus void itself (the evaluation of", "Chebyshev"),
        ("disc", "dilated by a disc of radius w, minus void itself. ", "Euclidean"),
        ("cross", "dilated by the 3 x 3 cross w times, minus void itself. ", "city-block"),
    ],
)
def test_bands_are_described_as_they_were_grown(element, void, change):
    assert void in about_band("void", element)
    assert f"within {change} distance w" in about_band("change", element)


def test_a_report_names_the_element_of_its_evaluation(tmp_path):
    evaluation = Evaluation(3, CONFIG.max_width, "disc")
    _, truth, predictions = scene(0)
    evaluation.add("im0", predictions["unary"], truth)
    arm = dataclasses.replace(make_arms(images=1, names=("unary",))[0], evaluation=evaluation)
    config = dataclasses.replace(CONFIG, element="disc")
    text = write(tmp_path, [arm], samples=(), config=config).read_text()
    assert "a disc of radius w" in text
    assert "square of side" not in text


def test_a_report_that_lies_below_is_named(tmp_path):
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation/report.json").write_text("{}")
    with pytest.raises(InputError, match=r"did you mean .*evaluation\?$"):
        read_report_json(tmp_path)


def test_sections_are_of_what_is_there(report, tmp_path):
    _, _, text, _ = report
    left = ("Search of the CRF's parameters", "CRF parameters during training", "Energy over the iterations")
    whole = re.findall(r"^## (.*)", text, re.MULTILINE)
    bare = re.findall(r"^## (.*)", write(tmp_path, make_arms(), samples=()).read_text(), re.MULTILINE)
    assert [title for title in whole if title not in bare] == ["Pictures", *left]
    assert "The search behind `posthoc`, `joint`, `posthoc+`:" in text
    assert "need not lower F" in text


def test_the_answer_comes_first(report):
    """One paragraph, one small table, what to do next; the numbers are those of the details."""
    arms, _, text, rows = report
    lead = text[: text.index("\n## ")]
    assert re.findall(r"^## (.*)", text, re.MULTILINE)[:2] == ["Pictures", "What was compared"]
    _, paragraph, note, table, _, steps = lead.split("\n\n")
    assert paragraph.startswith("**Joint training wins.** `joint` gains ")
    gain = rows["joint - unary", "miou"]
    value, low, high = (100 * float(gain[key]) for key in ("value", "low", "high"))
    level = 100 * float(rows["joint", "miou"]["value"])
    found = next(line for line in table.splitlines() if line.startswith("| **`joint`** |"))
    assert f"| {level:.2f} **{value:+.2f}** [{low:+.2f}, {high:+.2f}] |" in found
    assert table.count("\n") == 1 + len(arms)
    assert max(line.count("|") for line in table.splitlines()) == 5
    assert note.endswith("one seed, 10 images, 95 % bootstrap intervals over images")
    assert "- Use `joint`" in steps


def test_border_band_is_the_one_with_more_pixels():
    arms = make_arms()
    pixels = {
        band: int(arms[0].evaluation.trimap_tallies(band, 3)[..., 1].sum()) for band in ("void", "change")
    }
    assert pixels["void"] < pixels["change"]
    assert border_band(arms[0].evaluation) == "change"
    inside = Evaluation(3, 3)
    labels = torch.full((8, 8), 255)
    labels[:, 4:] = 1  # void alone is near it
    inside.add("a", labels.clamp(max=2), labels)
    assert border_band(inside) == "void"
    nothing = Evaluation(3, 3)
    nothing.add("a", labels[:, 4:], labels[:, 4:])
    assert border_band(nothing) is None


def test_commands_name_what_is_there_as_seen_from_here(tmp_path, monkeypatch):
    """Of `posthoc` the network of `unary`; from the working folder, where a run lies below it, else whole."""
    folder = tmp_path / "my runs/a"
    arms = with_folders(make_arms(names=("unary", "posthoc", "unary+")), folder)
    network = folder / "unary/train"
    network.mkdir()
    (network / "checkpoint.pt").write_bytes(b"")
    arms[0] = dataclasses.replace(arms[0], train_folder=network)
    (folder / "config.yaml").write_text("seed: 3")
    use = (
        "Use `posthoc`: `crfnet predict '{0}/config.yaml' --checkpoint '{0}/unary/train/checkpoint.pt' "
        "YOUR_PHOTO.jpg`."
    )
    again = (
        "`crfnet compare '{0}/config.yaml' --seed 4 --output '{0}_seed4'`, then `crfnet report '{0}' "
        "'{0}_seed4' --output '{0}_seeds'`."
    )
    text = write(folder, arms, samples=()).read_text()
    assert use.format(folder) in text
    assert again.format(folder) in text
    monkeypatch.chdir(tmp_path)
    text = write(folder, arms, samples=()).read_text()
    assert use.format("my runs/a") in text
    assert again.format("my runs/a") in text
    (folder / "posthoc/search/best.yaml").write_text("")
    text = write(tmp_path / "elsewhere", arms, samples=()).read_text()
    assert "Use `posthoc` with `'my runs/a/posthoc/search/best.yaml'`: `crfnet predict CONFIG " in text
    monkeypatch.chdir(folder)
    text = write(folder, arms, samples=()).read_text()
    assert "`crfnet predict config.yaml --checkpoint unary/train/checkpoint.pt --crf posthoc/search/" in text
    assert "`crfnet report ../a ../a_seed4 --output ../a_seeds`" in text
    begun = {"command": "crfnet compare run.yaml --checkpoint 'my nets/w.pt'"}
    text = write(folder, arms, samples=(), facts=begun).read_text()
    assert "`crfnet compare config.yaml --checkpoint 'my nets/w.pt' --seed 4 --output ../a_seed4`" in text
    text = write(folder, arms, samples=(), facts={"command": "crfnet evaluate run.yaml"}).read_text()
    assert "other seeds" not in text


@pytest.mark.parametrize(("name", "network"), [("dt_joint", "dt_joint"), ("dt", "unary")])
def test_a_trained_arm_is_used_with_what_its_training_made_of_its_parameters(tmp_path, name, network):
    arms = with_folders(make_arms(names=("unary", "posthoc")), tmp_path)
    arms[1] = dataclasses.replace(arms[1], name=name)
    for arm, folder in enumerate(dict.fromkeys(("unary", network))):
        (tmp_path / folder / "train").mkdir(parents=True)
        (tmp_path / folder / "train/checkpoint.pt").write_bytes(b"")
        arms[arm] = dataclasses.replace(arms[arm], train_folder=tmp_path / folder / "train")
    best = tmp_path / "dt/search/best.yaml"
    best.parent.mkdir(parents=True)
    best.write_text("")
    arms[1] = dataclasses.replace(arms[1], search_folder=best.parent)
    text = write(tmp_path, arms, samples=()).read_text()
    assert f"--checkpoint {tmp_path}/{network}/train/checkpoint.pt" in text
    assert (f"--crf {best}" in text) == (name == "dt")


def test_columns_that_do_not_matter_are_folded():
    table = Table("T", ["arm", "a", "b", "c"], [["x", "1", "2", "3"]], note="N")
    shown, folded = fold_columns(table, ["b"])
    assert (shown.header, shown.rows, shown.note) == (["arm", "b"], [["x", "2"]], "N")
    assert folded.summary == "More columns: a, c"
    assert folded.blocks[0].rows == [["x", "1", "3"]]
    assert fold_columns(table, ["a", "b", "c"]) == [table]
    turned, _ = fold_columns(table, ["c", "a"])
    assert (turned.header, turned.rows) == (["arm", "c", "a"], [["x", "3", "1"]])
    (whole,) = fold_columns(table, [])
    assert whole.blocks == [table]


def test_costs_tell_how_far_the_clock_is_believed(tmp_path):
    arms = [
        dataclasses.replace(arm, cpu_seconds_per_image=0.5, machine_load=1.7)
        for arm in make_arms(void=False, names=("unary", "posthoc"))
    ]
    text = write(tmp_path, arms, samples=()).read_text()
    assert "The load of the machine meanwhile was 1.7 per core" in text
    assert "| arm | over the image | 3 px of borders | processor time an image |" in text
    assert "| `posthoc` | 0.25 | 0.5 | 512 | 1,234 |" in text
    assert "posthoc,machine_load,1.7,," in (tmp_path / "scores.csv").read_text()
    quiet = [dataclasses.replace(arm, machine_load=0.6) for arm in arms]
    assert "| 3 px of borders | time an image |" in write(tmp_path, quiet, samples=()).read_text()


@pytest.mark.parametrize(("place", "before_after"), [(0, ("unary", "joint")), (1, ("posthoc+", "joint"))])
def test_gallery_in_numbers(report, place, before_after):
    """The images with their own mIoU, best first: the network and the winner, then joint training's rival."""
    arms, _, text, _ = report
    text = text[: text.index("<details>", text.index("joint</summary>"))]
    text = text.split("<details>")[place]
    assert f"to `{before_after[1]}`" in text
    old, new = (
        next(metrics(arm.evaluation.confusion).miou for arm in arms if arm.name == name)
        for name in before_after
    )
    rows = re.findall(r"^\| (im\d) \| ([\d.]+) \| ([\d.]+) \| ([+\-\d.]+) \|$", text, re.MULTILINE)
    expected = [
        (f"im{i}", f"{100 * old[i]:.2f}", f"{100 * new[i]:.2f}", f"{100 * (new[i] - old[i]):+.2f}")
        for i in (0, 1)
    ]
    assert sorted(rows) == expected
    assert float(rows[0][3]) >= float(rows[1][3])


def test_pictures_are_of_the_arms_that_the_answer_names(tmp_path):
    """The baseline and the winner first, joint training's fairest rival behind it; strips begin with both."""
    arms = make_arms()
    assert picture_pairs(arms, CONFIG) == [("unary", "joint"), ("posthoc+", "joint")]
    as_good = dataclasses.replace(arms[2], evaluation=arms[4].evaluation)  # joint is what posthoc+ is
    tied = [*arms[:2], as_good, *arms[3:]]
    pairs = picture_pairs(tied, CONFIG)
    assert pairs == [("unary", "posthoc+"), ("posthoc+", "joint")]
    lead = write(tmp_path, tied).read_text()
    assert lead.index("**The post-hoc CRF wins, behind") < lead.index("from `unary` to `posthoc+`")
    assert "the labels of unary, posthoc+, posthoc, joint, unary+](strip.png)" in lead
    last = [arms[0], arms[3], arms[4], arms[2]]
    assert "the labels of unary, joint, unary+, posthoc+](" in write(tmp_path, last).read_text()
    assert picture_pairs(arms[:2], CONFIG) == [("unary", "posthoc")]
    worse = [arms[2], arms[0]]  # no gain: with the arm that loses
    assert picture_pairs(worse, CONFIG) == [("joint", "unary")]
    assert picture_pairs(make_arms(images=2), CONFIG)[0] == ("unary", "posthoc")
    assert picture_pairs(arms[:1], CONFIG) == []
    arms = make_arms(names=("posthoc", "joint"))
    assert shown_images(arms, 2) == largest_changes(arms[0].evaluation, arms[1].evaluation, 2)
    assert shown_images(arms[:1], 2) == ("im0", "im1")


def test_a_report_can_be_made_again_from_its_folder(tmp_path):
    """After the folder was moved; everything but the pictures."""
    arms = make_arms(void=False, names=("unary", "joint"))
    write(tmp_path / "old", with_folders(arms, tmp_path / "old"), samples=())
    (tmp_path / "old").rename(tmp_path / "new")
    names = ("report.md", "report.html", "scores.csv")
    moved = lambda content: content.replace(b"/old", b"/new")  # noqa: E731 - commands name the folder
    before = [moved((tmp_path / "new" / name).read_bytes()) for name in names]
    inputs = read_report_json(tmp_path / "new")
    assert inputs.config == CONFIG
    write(tmp_path / "new", inputs.arms, samples=(), facts=inputs.facts, config=inputs.config)
    assert [(tmp_path / "new" / name).read_bytes() for name in names] == before
    with pytest.raises(InputError, match="no such file"):
        read_report_json(tmp_path)
    (tmp_path / "new/report.json").write_text("{}")
    with pytest.raises(InputError, match="not written by this version"):
        read_report_json(tmp_path / "new")


@pytest.mark.parametrize("images", [1, 9])
def test_a_few_images_decide_nothing(images, tmp_path):
    """Nowhere a verdict, an interval, or a word of sureness: answer, tables, classes, CSV, last lines."""
    arms = make_arms(images=images)
    path = write(tmp_path, arms, samples=(0,))
    text, said = path.read_text(), console_table(arms, CONFIG)
    what = "One image decides" if images == 1 else "9 images decide"
    assert f"**{what} nothing.** There are intervals and an answer from 10 images on." in text
    assert "- Score more images: 10 at least" in text
    coverage = "1 image: it decides nothing" if images == 1 else "9 images: they decide nothing"
    assert said.endswith(f"(one seed, {coverage})")
    assert f"one seed, {coverage}" in text
    page = re.sub(r"<(style|script|svg)\b.*?</\1>", "", path.with_name("report.html").read_text(), flags=re.S)
    tables = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    assert not re.search(r"\[[-+\d.]+, |\*\*|nan", tables + said)
    for word in ("wins", " sure", "pays", "pay here", "Use `", "in brackets", "excludes 0"):
        assert word not in text + page + said
    header, *rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert header == "arm,metric,value,low,high"
    assert all(row.endswith(",,") for row in rows)
    enough = make_arms(images=10)
    assert "**Joint training wins.**" in write(tmp_path, enough, samples=()).read_text()
    assert console_table(enough, CONFIG).endswith("95 % bootstrap intervals over images)")


def test_images_that_a_search_has_used_are_told_first(tmp_path):
    """On how many they were chosen, that nothing tells, or nothing at all: held out, trained, in folds."""
    unary, posthoc = make_arms(names=("unary", "posthoc"))

    def text(**changes):
        arm = dataclasses.replace(posthoc, **({"search_ids": ()} | changes))
        path = write(tmp_path, [unary, arm], samples=())
        return path.read_text()

    seen = text(seen_ids=("im1", "im3"))
    assert (
        "**The post-hoc CRF wins, on images that its search has used.** The parameters of `posthoc` were "
        in seen
    )
    assert (
        "chosen on 2 of the 10 images scored here: what it gains on those is more than on new ones." in seen
    )
    assert "2 of them are among those that CRF parameters were searched on" in seen
    assert "- Score `posthoc` on images that its search has not used: the same with `--exclude FILE`." in seen
    assert "Use `posthoc`" not in seen
    unknown = text()
    assert (
        "**The post-hoc CRF wins, unless its search has used these images.** Nothing tells on which "
        in unknown
    )
    assert "- Leave out the images that the parameters of `posthoc` were chosen on: " in unknown
    for held in ({"search_ids": ("s1",)}, {"folds": 2}, {"train_folder": tmp_path}):
        assert text(**held).startswith("# A title\n\n**The post-hoc CRF wins.** `posthoc` gains")


def test_a_made_up_set_is_no_forecast(tmp_path):
    """Behind the answer and at the end; of photos nothing is said."""
    arms = make_arms(names=("unary", "posthoc"))
    text = write(tmp_path, arms, samples=(), facts={"command": "x", **MADE_UP}).read_text()
    (said,) = MADE_UP.values()
    assert text.index(f"**{said}**") < text.index("## What was compared")
    assert text.endswith(f"| {said} |\n")
    assert "no forecast" not in write(tmp_path, arms, samples=()).read_text()


def test_networks_of_a_made_up_set_are_shown_no_photo(tmp_path):
    arms = with_folders(make_arms(names=("unary", "posthoc")), tmp_path)
    network = tmp_path / "unary/train"
    network.mkdir(exist_ok=True)
    (network / "checkpoint.pt").write_bytes(b"")
    arms[0] = dataclasses.replace(arms[0], train_folder=network)
    made_up = write(tmp_path, arms, samples=(), facts=MADE_UP).read_text()
    assert "checkpoint.pt --split val`" in made_up
    assert "YOUR_PHOTO.jpg" not in made_up
    assert "checkpoint.pt YOUR_PHOTO.jpg`" in write(tmp_path, arms, samples=(), facts={}).read_text()


def test_no_borders_at_all(tmp_path):
    """One class everywhere: neither curves nor a word of bands."""
    arm, evaluation = make_arms(names=("unary",))[0], Evaluation(3, CONFIG.max_width)
    for copy in range(10):
        evaluation.add(f"im{copy}", *[torch.ones(6, 6, dtype=torch.int64)] * 2)
    text = write(tmp_path, [dataclasses.replace(arm, evaluation=evaluation)], samples=()).read_text()
    assert "there are no borders to look at" in text
    assert " px of " not in text


def test_text_explains(report):
    _, _, text, _ = report
    for name in SHIFTS:
        assert f"- `{name}`: " in text
    assert "The 2 images that CRF parameters were searched on are held out" in text
    assert "10 images scored here" in text
    assert "paired bootstrap" in text
    assert "normalization `after`" in text
    assert "crfnet compare a \\| b" in text
    assert "left out of the mean" in text


def test_tables_are_whole(report):
    _, _, text, _ = report
    rows = [line for line in text.splitlines() if line.startswith("|")]
    header = 0
    for line in rows:
        cells = line.replace("\\|", "").count("|")
        if "---" in line:
            assert cells == header
        header = cells
    for arm, minus in compared_pairs(list(SHIFTS)):
        assert sum(line.startswith(f"| `{arm}` − `{minus}` |") for line in rows) == 2  # the rest is folded
    assert sum(line.startswith("| `joint` |") for line in rows) == 4  # scores, the rest, costs, CRF
    assert sum(line.startswith("| **`joint`** |") for line in rows) == 1  # the answer
    alone = interval(report[0][0].evaluation, "boundary_f", CONFIG)
    shown = f"{100 * alone.estimate:.2f} [{100 * alone.low:.2f}, {100 * alone.high:.2f}] |"
    assert sum(shown in line for line in rows if line.startswith("| `unary` |")) == 1
    assert "| `unary` | 0.25 | 512 | 1,234 |" in rows


def test_numbers_are_those_of_the_bootstrap(report):
    arms, _, text, rows = report
    by_name = {arm.name: arm.evaluation for arm in arms}

    def miou(confusions):
        return metrics(confusions).miou

    alone = bootstrap(by_name["unary"].confusion, miou, CONFIG.draws, CONFIG.seed)
    found = rows["unary", "miou"]
    assert [float(found[k]) for k in ("value", "low", "high")] == pytest.approx(
        [alone.estimate, alone.low, alone.high], abs=1e-6
    )
    inside = [by_name[name].trimap("change")[:, 2] for name in ("unary", "joint")]
    gain = paired_interval(*inside, miou, CONFIG.draws, CONFIG.seed)
    found = rows["joint - unary", "trimap_change/miou@3"]
    assert [float(found[k]) for k in ("value", "low", "high")] == pytest.approx(
        [gain.estimate, gain.low, gain.high], abs=1e-6
    )
    shown = f"**{100 * gain.estimate:+.2f}** [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]"
    assert sum(shown in line for line in text.splitlines() if line.startswith("| `joint` − `unary` |")) == 1
    assert rows["joint", "iou/cat"]["value"] == "1.000000"
    assert rows["unary", "seconds_per_image"] == {
        "arm": "unary",
        "metric": "seconds_per_image",
        "value": "0.25",
        "low": "",
        "high": "",
    }
    assert ("unary", "search_seconds") not in rows


def test_without_void_there_is_a_sentence_and_no_curve(tmp_path):
    path = write(tmp_path, make_arms(void=False, names=("unary",)), samples=())
    text = path.read_text()
    assert "void band" not in text
    assert "3 px of void" not in text
    assert "**w px of borders**" in text
    assert "nan" not in (text + (tmp_path / "scores.csv").read_text()).lower()
    assert not (tmp_path / "trimap_void.png").exists()
    assert (tmp_path / "trimap_change.png").exists()
    assert "Differences" not in text
    assert "CRF parameters\n" not in text
    assert "no list of such images" in text


def test_absent_classes_follow_the_config(tmp_path):
    """A class that is in no image is left out, or counts as 0; the report says which."""
    zero = dataclasses.replace(CONFIG, absent="zero")
    arms = make_arms(images=1, names=("joint",))  # only background and cat, all right
    evaluation = Evaluation(3, CONFIG.max_width)
    for copy in range(10):
        evaluation.add(f"im{copy}", scene(0)[2]["joint"], scene(0)[1])
    arms = [dataclasses.replace(arms[0], evaluation=evaluation)]
    text = write(tmp_path, arms, samples=(), config=zero).read_text()
    assert "counts as 0" in text
    assert "| `joint` | 66.67 [66.67, 66.67] | 66.67 [66.67, 66.67] |" in text  # mIoU, Boundary IoU
    assert "| `joint` | 100.00 [100.00, 100.00] | 66.67 [66.67, 66.67] |" in text  # pixels, classes
    text = write(tmp_path, arms, samples=()).read_text()
    assert "| `joint` | 100.00 [100.00, 100.00] | 100.00" in text
    assert "| dog | – |" in text


def test_refuses_what_cannot_be_compared(tmp_path):
    arms = make_arms()
    cases = [
        ([], {}, "arms is empty"),
        ([arms[0], arms[0]], {}, "names must differ"),
        ([arms[0], make_arms(images=5)[1]], {}, "unary and posthoc differ in ids"),
        ([dataclasses.replace(arms[0], search_ids=("im2",))], {}, "unary: 1 of the scored images, first im2"),
        (arms, {"class_names": CLASSES[:2]}, "class_names has 2 entries"),
        (arms, {"palette": VOC_PALETTE[:2]}, "palette has 2 colors"),
        (arms, {"strip_samples": [("im0", *scene(0)[:2], {})]}, "strip sample im0: it lacks"),
        (
            arms[:1],
            {"strip_samples": [("im0", *scene(0)[:2], {"unary": scene(1)[1]})]},
            "strip sample im0: .*one size",
        ),
    ]
    for given, changes, message in cases:
        with pytest.raises(InputError, match=message):
            write(tmp_path, given, **changes)
    assert not list(tmp_path.iterdir())


def test_console_table():
    *lines, names, last = console_table(make_arms(), CONFIG).splitlines()
    assert lines[0].split("  ")[-3:] == ["3 px of void", "3 px of borders", "s / image"]
    assert names.startswith("3 px of void (the ribbon along objects that is not scored) and 3 px of borders")
    assert last == "(one seed, 10 images, 95 % bootstrap intervals over images)"
    assert [line.split()[0] for line in lines] == ["arm", *SHIFTS]
    assert len({len(line) for line in lines}) == 1
    assert re.search(
        r"joint +100\.00 +\+\d+\.\d\d \[\+\d+\.\d\d, \+\d+\.\d\d\] +100\.00 +100\.00 +0\.25", lines[3]
    )


def test_console_table_has_no_column_without_a_number():
    alone = [dataclasses.replace(make_arms()[0], seconds_per_image=math.nan)]
    header, row, *_ = console_table(alone, CONFIG).splitlines()
    assert re.split(" {2,}", header) == ["arm", "mIoU", "3 px of void", "3 px of borders"]
    assert len(row.split()) == 4
    one = [alone[0], make_arms()[1]]
    header, first, *_ = console_table(one, CONFIG).splitlines()
    assert header.endswith("s / image")
    assert first.endswith("–")


def test_cost_table_has_no_column_without_a_number():
    arms = make_arms()
    assert cost_table(arms).header == ["arm", "s / image", "peak MiB", "training s"]
    searched = [arms[0], dataclasses.replace(arms[1], search_seconds=7.0)]
    table = cost_table(searched)
    assert table.header[-1] == "search s"
    assert [row[-1] for row in table.rows] == ["–", "7"]


def test_compared_pairs():
    assert compared_pairs(["unary", "posthoc"]) == (("posthoc", "unary"),)
    assert compared_pairs(["a", "b", "c"]) == (("b", "a"), ("c", "a"))
    assert compared_pairs(["unary"]) == ()
    five = tuple(pair for pair in DIFFERENCES if set(pair) <= set(SHIFTS))
    assert len(five) == 7
    assert compared_pairs(list(SHIFTS)) == (*five, ("posthoc+", "unary"))
    assert compared_pairs(["unary", "posthoc", "dt"]) == (
        ("posthoc", "unary"),
        ("dt", "unary"),
        ("dt", "posthoc"),
    )


def test_largest_changes():
    """Image k of arm b gains k - 3 wrong pixels less; the extremes are shown, best first."""
    a, b = Evaluation(2, 1), Evaluation(2, 1)
    labels = torch.zeros(1, 10, dtype=torch.int64)
    labels[0, :5] = 1
    for k in range(7):
        for arm, wrong in ((a, 3), (b, 6 - k)):
            prediction = labels.clone()
            prediction[0, 9 - wrong + 1 :] = 1
            arm.add(str(k), prediction[:, :10] if wrong <= 5 else 1 - labels, labels)
    assert largest_changes(a, b, 2) == ("6", "0")
    assert largest_changes(a, b, 3) == ("6", "5", "0")
    assert largest_changes(a, b, 99) == tuple(map(str, range(6, -1, -1)))
    b.add("more", labels, labels)
    with pytest.raises(InputError, match="different images"):
        largest_changes(a, b, 2)

"""Pictures that another program would run, and words that a terminal, a page or a spreadsheet would obey."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import EpsImagePlugin, Image

from crfnet.cli.main import main
from crfnet.data.file_dataset import read_image
from crfnet.errors import InputError, printable
from crfnet.explore.palettes import palette_of_png
from crfnet.files import IMAGE_FORMATS, csv_text, open_image, read_indices
from crfnet.labels import read_label_png
from crfnet.report.document import Document, Section, Table, Text, plain
from crfnet.report.html import html
from crfnet.report.markdown import markdown
from crfnet.score_cache.converters import ConvertOptions, convert_scores

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(run) print\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    "read",
    [read_image, read_indices, read_label_png, lambda path: palette_of_png(path, 2)],
    ids=["image", "mask", "labels", "palette"],
)
@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_no_program_is_started_for_a_picture(read, ending, tmp_path, monkeypatch):
    """Pillow knows PostScript by its content, and hands it to Ghostscript."""
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **_: started.append(arguments))
    path = tmp_path / f"photo{ending}"
    path.write_bytes(POSTSCRIPT)
    with Image.open(path) as picture:
        assert picture.format == "EPS"  # what it would be taken for
    with pytest.raises(InputError, match=r"photo.* cannot be read as an image \(none of JPEG, PNG"):
        read(path)
    assert started == []


def test_no_program_is_started_for_the_size_of_an_image(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 9, 9), np.float32))
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(POSTSCRIPT)
    with pytest.raises(InputError, match=r"a\.jpg: cannot be read as an image"):
        convert_scores(tmp_path, tmp_path / "scores", ConvertOptions(images=tmp_path / "images"))


@pytest.mark.parametrize("name", [*IMAGE_FORMATS, "GIF", "PPM", "PCX", "TGA", "ICO", "EPS", "PDF"])
def test_formats_that_are_read(name, tmp_path):
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (16, 16), (200, 10, 10)).save(path, format=name)
    if name in IMAGE_FORMATS:
        assert read_image(path).shape == (3, 16, 16)
    else:
        with pytest.raises(InputError, match="cannot be read as an image"), open_image(path):
            pass


def test_images_are_opened_in_one_place():
    """And where a report makes a picture smaller that it has drawn."""
    package = Path(__file__).parents[2] / "crfnet"
    opening = re.compile(
        r"\bImage\.open\(|PillowImage\.open\(|decode_image|read_image\(path\)\.convert|imread"
    )
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if opening.search(path.read_text())
    }
    assert found == {"files/images.py", "report/html.py"}
    for name in found:
        calls = re.findall(r"Image\.open\(.*", (package / name).read_text())
        assert all("formats=" in call for call in calls)


OBEYED = [
    "\x1b[2J",
    "\x07",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\r",
    "\x08",
    "\x7f",
    "\u202e",
    "\u2028",
    "\udc80",
]


@pytest.mark.parametrize("text", OBEYED)
def test_a_terminal_obeys_nothing(text):
    shown = printable(f"a{text}b\n\tc é 日 \U0001f642")
    assert text not in shown
    assert not [each for each in shown if each in "".join(OBEYED) and not each.isprintable()]
    assert shown.startswith("a\\")
    assert shown.endswith("b\n\tc é 日 \U0001f642")
    shown.encode()


def silent(text: str) -> bool:
    return all(character.isprintable() or character in "\n\t" for character in text.replace("\r", "\n"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["config", "{folder}/{evil}.yaml"],
        ["config", "{folder}/key.yaml"],
        ["config", "{folder}/value.yaml"],
        ["config", "--{evil}.x", "1"],
        ["predict", "{folder}/good.yaml", "--checkpoint", "{evil}.pt", "{evil}.png"],
        ["evaluate", "{folder}/good.yaml", "--predictions", "{evil}"],
        ["explore", "{evil}.png", "scores"],
        ["import", "{folder}/{evil}.pt"],
        ["{evil}"],
    ],
)
def test_no_command_says_what_a_terminal_obeys(arguments, tmp_path, capsys):
    evil = "x\x1b]0;pwned\x07\x9b31m"
    (tmp_path / f"{evil}.yaml").write_text("seed: x")
    (tmp_path / f"{evil}.pt").write_bytes(b"no checkpoint")
    (tmp_path / "key.yaml").write_text(yaml.safe_dump({f"model {evil}": 1}))
    (tmp_path / "value.yaml").write_text(yaml.safe_dump({"data": {"name": evil}}))
    (tmp_path / "good.yaml").write_text(f"output: {tmp_path}/out")
    given = [each.replace("{folder}", str(tmp_path)).replace("{evil}", evil) for each in arguments]
    with pytest.raises(SystemExit) as stop:
        main(given)
    assert stop.value.code == 2
    said = capsys.readouterr()
    assert silent(said.out)
    assert silent(said.err)
    assert "crfnet: " in said.err


def test_what_is_printed_and_logged(tmp_path, capsys):
    """Class names of two folders of label maps, whose table is printed; and the warning of a report."""
    for name in ("predictions", "labels"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.eye(9, dtype=np.uint8)).save(tmp_path / name / "a.png")
    folders = ["--predictions", str(tmp_path / "predictions"), "--labels", str(tmp_path / "labels")]
    names = ["--num-classes", "2", "--class-names", "\x1b[2Jsky,\x07<b>sea</b>"]
    out = tmp_path / "out\x1b[2J"
    main(["evaluate", *folders, *names, "--output", str(out), "--evaluation.draws", "5"])
    assert silent(capsys.readouterr().out)
    assert "<b>" not in (out / "report.md").read_text()
    assert "<b>sea" not in (out / "report.html").read_text()


def test_markdown_holds_no_html():
    evil = "<img src=x onerror=alert(1)>"
    names = [evil, "a`<b>`", "``<b>", "\\<b>", "&lt;i&gt;", "[x](javascript:alert(1))", "|<b>|", "*<b>*"]
    rows = [[plain(name), "1"] for name in names]
    blocks = [
        Text(f"`{evil}` {evil} ``{evil}` ```{evil}`"),
        Table("c", [plain(evil), "n"], rows, note=plain(evil)),
    ]
    document = Document(evil, blocks, [Section("s", blocks)])
    text = markdown(document)
    outside = re.sub(r"(?<![`\\])`[^`\n]+`(?!`)", "", text)
    assert "<" not in outside
    assert "&amp;lt;i&amp;gt;" in text
    assert "](javascript" not in text.replace("\\[x](javascript", "")
    assert f"`{evil}`" in text  # code is shown as it is
    assert "<img src=x" not in html(document)


FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1+1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_computes_nothing(text):
    content = csv_text([text, "b"], [[text, "sky"], [f"sky{text}", "b"]])
    rows = list(csv.reader(io.StringIO(content, newline="")))
    shown = text if text[0] == "\r" and not text.isprintable() else f"'{text}"
    shown = shown.replace("\r", "\\r")
    assert rows == [[shown, "b"], [shown, "sky"], [f"sky{text}".replace("\r", "\\r"), "b"]]


def test_numbers_and_names_stay_in_a_csv():
    cells = ["-0.5", "+1e3", "-inf", "", "sky", "a - b", "iou/=x", -1, 2.5]
    (_, row) = csv.reader(io.StringIO(csv_text(["h"], [cells])))
    assert row == [str(cell) for cell in cells]


def test_class_names_are_no_formulas(tmp_path):
    from crfnet.evaluation.csv_tables import write_tables
    from crfnet.evaluation.evaluator import Evaluation

    evaluation = Evaluation(2, 1)
    evaluation.add("=id()", torch.eye(9).long(), torch.eye(9).long())
    write_tables(tmp_path, evaluation, ["=cmd()", "@x"])
    for path in tmp_path.glob("*.csv"):
        cells = [cell for row in csv.reader(path.read_text().splitlines()) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "@"))]

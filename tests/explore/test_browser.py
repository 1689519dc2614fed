"""The page in a browser: it loads, a slider changes the picture, save writes what the commands read."""

import time
from dataclasses import replace

import pytest
import torch
import yaml

from crfnet.cli.main import main
from crfnet.crf.config_file import load_crf_config
from crfnet.data import load_dataset
from crfnet.explore import Session, save_crf
from crfnet.pipeline import evaluate_split
from crfnet.pipeline.run_config import load_run
from crfnet.score_cache import write_scores
from tests.browser import chromium
from tests.explore.test_session import CRF, scene

pytest.importorskip("bokeh")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

from tests.explore.test_page import served  # noqa: E402

#: Finds what is inside bokeh's shadow roots.
FIND = """
const find = (root, what) => {
  for (const each of root.querySelectorAll("*")) {
    if (each.matches(what)) return each;
    const inner = each.shadowRoot && find(each.shadowRoot, what);
    if (inner) return inner;
  }
};
"""
PIXELS = (
    FIND
    + """
const canvas = find(document.querySelector(arguments[0]), "canvas");
return canvas ? canvas.toDataURL() : "";
"""
)
TEXT = "const found = Bokeh.documents[0]?.get_model_by_name(arguments[0]); return found ? found.text : '';"


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, as wide as a laptop."""
    with chromium("browser") as driver:
        yield driver


def until(browser, holds, told="status"):
    """Waits for it, at most 20 seconds; else the test fails with what the page tells."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, browser.execute_script(TEXT, told)
        time.sleep(0.05)


def size(browser, width, mobile):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_a_slider_and_save(browser, tmp_path):
    keys = pytest.importorskip("selenium.webdriver").Keys
    image, logits = scene()
    session = Session(image, logits, names=("sky", "<sea>", "sun", "sand"))
    path = tmp_path / "mine.yaml"

    def inside(place, what):
        return browser.execute_script(
            f"{FIND} return find(document.querySelector(arguments[0]), arguments[1])", place, what
        )

    with served(session, CRF, tmp_path) as url:
        size(browser, 1280, mobile=False)
        browser.get(url)
        until(browser, lambda: "CRF at full size" in browser.execute_script(TEXT, "status"))
        assert [
            entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")
        ] == []
        pictures = [browser.execute_script(PIXELS, place) for place in (".image", ".network", ".crf")]
        assert len(set(pictures)) == 3
        assert "&lt;sea&gt;" in browser.execute_script(TEXT, "legend")
        handle = inside(".controls", ".noUi-handle")
        handle.send_keys(keys.ARROW_RIGHT * 8)  # the first slider: w1, in steps of a quarter
        until(browser, lambda: browser.execute_script(PIXELS, ".crf") != pictures[2])
        assert [browser.execute_script(PIXELS, place) for place in (".image", ".network")] == pictures[:2]

        # Parameters of variants that are not chosen have text fields too, which are hidden.
        name = browser.execute_script(
            f"{FIND} return find(find(document.querySelector('.controls'), '.file').shadowRoot, 'input')"
        )
        name.clear()
        name.send_keys(f"{path}{keys.TAB}")
        inside(".controls", "button").click()
        until(browser, lambda: browser.execute_script(TEXT, "saved").startswith("saved: "), "saved")
        chosen = load_crf_config(path)
        assert chosen == replace(CRF, w1=chosen.w1)
        assert chosen.w1 > CRF.w1
        for width in (1280, 390):
            size(browser, width, mobile=width < 700)
            browser.get(url)
            until(browser, lambda: "CRF at full size" in browser.execute_script(TEXT, "status"))
            page = "document.documentElement"  # a scroll bar at its side is no part of it
            widths = browser.execute_script(f"return [innerWidth, {page}.scrollWidth - {page}.clientWidth]")
            assert widths == [width, 0]
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_before_over_after_and_the_text_to_copy(browser, tmp_path):
    keys = pytest.importorskip("selenium.webdriver").Keys
    with served(Session(*scene()), CRF, tmp_path) as url:
        size(browser, 1280, mobile=False)
        browser.get(url)
        until(browser, lambda: "CRF at full size" in browser.execute_script(TEXT, "status"))
        before, after = (browser.execute_script(PIXELS, place) for place in (".before", ".after"))
        assert before != after
        assert min(len(before), len(after)) > 1000
        places = browser.execute_script(
            "return ['.before', '.after'].map((each) => JSON.stringify(document.querySelector(each)"
            ".getBoundingClientRect()))"
        )
        assert len(set(places)) == 1  # the one lies on the other
        shown = "return getComputedStyle(document.querySelector('.before')).clipPath"
        assert "100%" in browser.execute_script(shown)  # is cut off: nothing of it is seen
        divider = browser.find_element("css selector", ".split input")
        divider.send_keys(keys.END)
        assert "0%" in browser.execute_script(shown).replace("100%", "")
        line = "return getComputedStyle(document.querySelector('.line')).visibility"
        assert browser.execute_script(line) == "hidden"
        divider.send_keys(keys.ARROW_LEFT)
        assert browser.execute_script(line) == "visible"

        assert browser.execute_script(TEXT, "snippet").startswith("crf:\n  w1: 5.0\n")
        label = "return Bokeh.documents[0].get_model_by_name('copy').label;"
        assert browser.execute_script(label) == "copy"
        button = (
            f"{FIND} return find(find(document.querySelector('.controls'), '.copy').shadowRoot, 'button')"
        )
        browser.execute_script(button).click()
        until(browser, lambda: browser.execute_script(label) != "copy", "snippet")
        assert browser.execute_script(label) in ("copied", "not copied: mark the text")
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_what_is_saved_is_what_evaluate_takes(tmp_path, monkeypatch):
    told = {}
    monkeypatch.setattr(evaluate_split, "console_table", lambda arms, config: "")
    monkeypatch.setattr(
        evaluate_split, "write_report", lambda folder, arms, **rest: told.update(arms=arms) or folder
    )
    save_crf(tmp_path / "mine.yaml", CRF, ["a test"])
    data = {"name": "toy", "toy": {"train": 1, "val": 1, "size": [32, 32]}}
    config = {"data": data, "output": str(tmp_path / "out"), "evaluation": {"draws": 5, "max_width": 1}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    dataset = load_dataset(load_run(tmp_path / "run.yaml").data, "val")
    scores = [(id, torch.randn(len(dataset.classes), 8, 8)) for id in dataset.ids]
    write_scores(tmp_path / "scores", scores, len(dataset.classes), align_corners=False, source="test")
    run = ["evaluate", str(tmp_path / "run.yaml"), "--scores", str(tmp_path / "scores")]
    main([*run, "--crf", str(tmp_path / "mine.yaml")])
    (_, posthoc) = told["arms"]
    assert posthoc.name == "posthoc"
    assert posthoc.crf["w1"] == pytest.approx(CRF.w1)

"""The report as one HTML file: what is in it, and how it behaves in a browser."""

import base64
import io
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from PIL import Image

from crfnet.report.document import plain
from crfnet.report.html import inline
from tests.browser import chromium
from tests.report.factories import make_arms, write

PHONE = 390  #: pixels, the width of a common phone


class Page(HTMLParser):
    """Tags with their attributes, in order."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def page(report):
    return Page((report[1] / "report.html").read_text())


def test_every_picture_is_inside_and_decodes(page):
    pictures = page.all("img")
    assert len(pictures) == 2 * 2 * 8 + 2 + 1  # two galleries, strips, heat map
    for picture in pictures:
        kind, content = re.fullmatch(r"data:image/(\w+);base64,(.+)", picture["src"]).groups()
        with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as image:
            image.load()
            assert image.format == kind.upper()
        assert len(picture["alt"]) > 10
    told = Counter(picture["alt"] for picture in pictures)
    twice = [alt for alt, times in told.items() if times > 1]
    assert len(twice) == 2 * (2 * 2 + 2)  # image, truth and joint, whole and close up, of both galleries
    assert max(told.values()) == 2


def test_nothing_is_loaded_from_elsewhere(page, report):
    for tag, attributes in page.tags:
        loads = [value for name, value in attributes.items() if name in ("src", "srcset", "data", "poster")]
        assert all(value.startswith("data:") for value in loads), tag
        if tag in ("link", "use", "image"):
            target = attributes.get("href") or attributes["xlink:href"]
            assert target.startswith(("data:", "#"))
    assert not {"iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    assert all("src" not in script for script in page.all("script"))
    text = (report[1] / "report.html").read_text()
    assert "@import" not in text
    assert set(re.findall(r"url\(([^)]{0,5})", text)) <= {
        target[:5] for target in re.findall(r"url\((#[^)]*)", text)
    }
    assert len(text) < 2_000_000


def test_ids_are_unique_and_lead_somewhere(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) > 50  # those of the figures
    assert len(set(ids)) == len(ids)
    inner = {
        value[1:]
        for _, a in page.tags
        for name, value in a.items()
        if name.endswith("href") and value[0] == "#"
    }
    assert inner <= set(ids)
    assert len(page.all("section")) == 12
    for _, attributes in page.tags:
        for value in attributes.values():
            assert set(re.findall(r"url\(#([^)]*)\)", value or "")) <= set(ids)


def test_html_tells_what_markdown_tells(report):
    """The same tables, cell by cell, and the same sentences."""
    _, folder, markdown, _ = report
    bare = lambda text: " ".join(re.sub(r"[`*\\|]|\[(?=scores)|\]\(\S+\)", " ", text).split())  # noqa: E731
    text = re.sub(r"<(style|script|svg)\b.*?</\1>", "", (folder / "report.html").read_text(), flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", " ", text).replace("&#39;", "'").replace("&lt;", "<").replace("&gt;", ">")
    text = bare(text)
    for line in markdown.splitlines():
        if line and not line.startswith(("!", "| ---")):
            assert bare(re.sub("</?(details|summary)>", "", line).lstrip("#- ")) in text


def test_marks():
    assert inline("a < b & `c*d` **e `f`** [g](h.csv)") == (
        'a &lt; b &amp; <code>c*d</code> <strong>e <code>f</code></strong> <a href="h.csv">g</a>'
    )
    assert inline(plain("`x` **y** [z](javascript:1) <img>\n\\")) == (
        "`x` **y** [z](javascript:1) &lt;img&gt; \\"
    )
    assert inline("**[-1.00, +2.00]**") == "<strong>[-1.00, +2.00]</strong>"
    assert 'download="s.csv" href="data:text/csv;base64,YSxi"' in inline("[s](s.csv)", {"s.csv": b"a,b"})


def test_names_cannot_break_the_page(tmp_path):
    arms = make_arms(void=False, names=("unary", "joint"))
    nasty = ("<script>alert(1)</script>", 'a"b', "x|y")
    text = write(
        tmp_path, arms, samples=(0,), class_names=nasty, title="<b>", facts={"command": "<img src=x>"}
    )
    page = Page(text.with_name("report.html").read_text())
    assert len(page.all("script")) == 1
    assert not page.all("b")
    assert all(picture["src"] != "x" for picture in page.all("img"))
    assert "x\\|y" in text.read_text()


@pytest.fixture(scope="module")
def browser(report):
    """Headless Chromium on the report, as a phone."""
    with chromium("browser", "performance") as driver:
        size = {"width": PHONE, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get((report[1] / "report.html").as_uri())
        yield driver


def test_the_page_loads_by_itself(browser):
    assert browser.get_log("browser") == []
    requests = re.findall(
        r'"Network.requestWillBeSent".*?"url":"([^"]*)"', str(browser.get_log("performance"))
    )
    assert {url.partition(":")[0] for url in requests} <= {"data", "file"}
    assert any(url.endswith("report.html") for url in requests)
    shown = browser.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth > 0)")
    assert len(shown) == 35
    assert all(shown)


def test_the_slider_moves_by_keys_and_by_touch(browser):
    webdriver = pytest.importorskip("selenium.webdriver")
    slider = browser.find_element("css selector", ".pair input")
    before = browser.find_element("css selector", ".pair .before")
    cut = lambda: float(re.search(r"([\d.]+)%", before.value_of_css_property("clip-path"))[1])  # noqa: E731
    assert cut() == 50
    slider.send_keys(webdriver.Keys.ARROW_RIGHT * 10)
    assert (cut(), slider.get_attribute("value")) == (40, "60")
    other = browser.find_elements("css selector", ".pair input")[1]
    assert other.get_attribute("value") == "50"
    width = slider.size["width"]
    webdriver.ActionChains(browser).move_to_element_with_offset(slider, -width // 4, 0).click().perform()
    assert 65 < cut() < 85
    line = browser.execute_script(
        "return getComputedStyle(arguments[0].parentElement, '::after').left", slider
    )
    assert float(line.removesuffix("px")) == pytest.approx(width * (1 - cut() / 100), abs=3)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_light_and_dark(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert browser.execute_script("return document.documentElement.scrollWidth") == PHONE
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    gray = {
        what: sum(map(float, re.findall(r"[\d.]+", browser.execute_script(script, *what))[:3])) / 3
        for what in (("body", "backgroundColor"), ("body", "color"), (".plot svg text", "fill"))
    }
    paper, ink, labels = gray.values()
    assert ink == labels
    assert (paper > 200 and ink < 60) if scheme == "light" else (paper < 60 and ink > 200)
    assert len(browser.find_elements("css selector", "svg[role=img][aria-label]")) == 6
    assert browser.find_element("tag name", "html").get_attribute("lang") == "en"


def test_the_answer_fits_a_phone_and_the_rest_opens(browser):
    """Nothing of the answer's table lies beyond the edge; folded columns are seen after a tap."""
    answer = browser.find_element("css selector", "main > .scroll")
    width = browser.execute_script("return arguments[0].scrollWidth - arguments[0].clientWidth", answer)
    assert width <= 0
    order = "return [...document.querySelectorAll('main > *')].map(each => each.tagName)"
    assert browser.execute_script(order)[:6] == ["P", "P", "DIV", "P", "UL", "NAV"]
    folded = browser.find_element("xpath", "//section[@id='scores']//details")
    assert not folded.find_element("tag name", "table").is_displayed()
    folded.find_element("tag name", "summary").click()
    assert folded.find_element("tag name", "table").is_displayed()


def test_close_ups_are_of_the_frame(browser):
    """The frame covers the part that is shown close up; pixels are not smoothed."""
    frame, whole = (
        browser.find_element("css selector", f".pair {what}").rect for what in (".frame", ".before")
    )
    assert whole["x"] - 1 <= frame["x"]
    assert frame["x"] + frame["width"] <= whole["x"] + whole["width"] + 1
    close = browser.find_element("css selector", ".close img")
    assert close.value_of_css_property("image-rendering") == "pixelated"
    shape = frame["width"] / frame["height"]
    assert close.rect["width"] / close.rect["height"] == pytest.approx(shape, rel=0.05)


def test_what_matters_of_the_tables_fits_a_wide_phone(browser):
    """Scores, differences and classes with their columns near borders, beside the numbers over the image."""
    sizes = [
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True} for width in (420, PHONE)
    ]
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes[0])
    over = "return arguments[0].scrollWidth - arguments[0].clientWidth"
    for section, column in (
        ("scores", "3 px of borders"),
        ("differences", "3 px of borders"),
        ("each-class", "−"),
    ):
        (table,) = browser.find_elements("css selector", f"#{section} > .scroll:has(table)")
        assert column in table.text.replace("\n", " ")
        assert browser.execute_script(over, table) <= 0, section
    strip = browser.find_element("css selector", "img.wide[alt*='labels of']")
    shown = strip.find_element("xpath", "..").size["width"]
    assert 4 / 7 < shown / strip.size["width"] < 5 / 7  # image, truth, network and winner of seven columns
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes[1])

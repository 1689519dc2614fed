"""A document as one HTML file that needs nothing else: no network, no other file, no library."""

import base64
import io
import re
from collections.abc import Mapping
from functools import partial

import jinja2
import matplotlib
from jinja2 import PackageLoader
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image as PillowImage

from crfnet.report.document import Document
from crfnet.shapes import ImageBytes

__all__ = ["html", "inline", "svg_of"]

MAX_SIDE = 720  #: pixels of a picture in the gallery; larger ones are made smaller
MAX_WIDE = 2400  #: pixels of a strip's width
QUALITY = 82  #: of WebP, 0..100

_MARKS = re.compile(
    r"\\(?P<literal>.)|`(?P<code>[^`]+)`|\*\*(?P<bold>.+?)\*\*|\[(?P<link>[^\]]+)\]\((?P<to>[^)\s]+)\)"
)

#: Colors of the figures that the page replaces, for light and dark: ink, the neutral curve, the grid.
_ADAPTED = {"#000000": "currentColor", "#404040": "var(--neutral)", "#ebebeb": "var(--line)"}
_FONT = re.compile(r"font: ([^;\"]*?px) '[^;\"]*")


def html(document: Document) -> str:
    """The whole page."""
    environment = jinja2.Environment(
        loader=PackageLoader("crfnet.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "text": partial(inline, files=document.files),
        "picture": _shrunk,
        "photo": _photo,
    }
    environment.filters |= {"closeup": _closeup, "cell": partial(_cell, files=document.files)}
    environment.filters |= {"svg": svg_of, "kind": lambda block: type(block).__name__, "anchor": _anchor}
    return environment.get_template("report.html").render(document=document)


def inline(text: str, files: Mapping[str, bytes] | None = None) -> Markup:
    """The marks of `crfnet.report.document` as HTML; links to ``files`` carry the file."""

    def replaced(mark: re.Match[str]) -> str:
        found = mark.groupdict()
        if found["code"]:
            return f"<code>{_words(found['code'])}</code>"
        if found["bold"]:
            return f"<strong>{inline(found['bold'], files)}</strong>"
        if found["link"]:
            return _link(found["link"], found["to"], files or {})
        return str(escape(found["literal"]))

    parts, end = [], 0
    for mark in _MARKS.finditer(text):
        parts += [str(escape(text[end : mark.start()])), replaced(mark)]
        end = mark.end()
    return Markup("".join([*parts, str(escape(text[end:]))]))


def svg_of(figure: Figure, name: str, alt: str) -> Markup:
    """The figure as an element of the page, in the page's colors and letters.

    Args:
        figure: with nothing on it but lines, areas and words.
        name: put before every id, which are unique only within a figure.
        alt: what it shows, in words.
    """
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    for color, adapted in _ADAPTED.items():
        text = text.replace(color, adapted)
    text = _FONT.sub(r"font: \1 system-ui, sans-serif", text)
    text = re.sub(
        r'<svg ([^>]*?)width="([\d.]+)pt" height="[\d.]+pt"', r'<svg \1style="--width: \2"', text, count=1
    )
    return Markup(text.replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1))


def _link(text: str, target: str, files: Mapping[str, bytes]) -> str:
    shown = escape(text)
    if target in files:
        return f'<a download="{escape(target)}" href="{_data("text/csv", files[target])}">{shown}</a>'
    return f'<a href="{escape(target)}">{shown}</a>'


def _photo(picture: ImageBytes) -> str:
    """The ``src`` of a picture of the gallery."""
    return _webp(PillowImage.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy()), MAX_SIDE)


def _closeup(picture: ImageBytes) -> str:
    """The ``src`` of a small part of a picture, every pixel as it is."""
    stream = io.BytesIO()
    PillowImage.fromarray(picture.permute(1, 2, 0).contiguous().cpu().numpy()).save(stream, format="PNG")
    return _data("image/png", stream.getvalue())


def _words(text: str) -> Markup:
    """The words of a command, which a browser then breaks at blanks alone and not within --options."""
    words = text.split(" ")
    if len(words) == 1:
        return escape(text)
    return Markup(" ").join(Markup("<span>{}</span>").format(word) for word in words)


def _cell(text: str, files: Mapping[str, bytes]) -> Markup:
    """A cell of a table, to be broken at its line ends alone."""
    parts = [inline(part, files) for part in text.split("\n")]
    if len(parts) == 1:
        return parts[0]
    return Markup(" ").join(Markup("<span>{}</span>").format(part) for part in parts)


def _shrunk(png: bytes) -> str:
    """The ``src`` of a PNG file: smaller, where its colors are many."""
    with PillowImage.open(io.BytesIO(png), formats=("PNG",)) as picture:
        smaller = _webp(picture.convert("RGB"), MAX_WIDE)
    whole = _data("image/png", png)
    return min(smaller, whole, key=len)


def _webp(picture: PillowImage.Image, side: int) -> str:
    picture.thumbnail((side, side))
    stream = io.BytesIO()
    picture.save(stream, format="WEBP", quality=QUALITY)
    return _data("image/webp", stream.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _anchor(title: str) -> str:
    """The id of a section."""
    return re.sub(r"\W+", "-", title.lower()).strip("-")

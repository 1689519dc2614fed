"""The page: sliders on the left, image, network and CRF side by side on the right, zoomed together.

Its frame is ``page.html``: what stands where on a wide screen, and on a narrow one.
"""

import html
import math
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.layouts import column
from bokeh.models import Button, Checkbox, ColumnDataSource, Select, Slider, TextInput
from numpy.typing import NDArray

from crfnet.crf.filters import FILTERS
from crfnet.crf.inference import INFERENCES
from crfnet.crf.layer import CRFConfig
from crfnet.crf.normalization import NORMALIZATIONS
from crfnet.domain_transform import DomainTransformConfig
from crfnet.errors import InputError
from crfnet.explore.class_view import CHANGES, class_view
from crfnet.explore.controls import WIDTH, VariantControls, select, slider, text
from crfnet.explore.copying import CopyControls
from crfnet.explore.legend import legend
from crfnet.explore.painting import painted
from crfnet.explore.plots import PICTURES, make_plots, rgba
from crfnet.explore.redraw import Redraw
from crfnet.explore.saving import save_crf
from crfnet.explore.session import Picture, Session
from crfnet.explore.transform_controls import TransformControls
from crfnet.labels import as_rgb
from crfnet.search.grid import round_digits
from crfnet.segmenter import RefinementConfig
from crfnet.shapes import LabelMap

__all__ = ["Page"]

#: Title, smallest, largest and step of each slider: the papers' search ranges (w1 3..10, sigma_alpha 30..100,
#: sigma_beta 3..10) with as much again around them.
SLIDERS: dict[str, tuple[str, float, float, float]] = {
    "w1": ("w1: weight of the bilateral kernel", 0, 20, 0.25),
    "theta_alpha": ("σ_alpha: its width over positions, pixels", 5, 200, 1),
    "theta_beta": ("σ_beta: its width over colors, 0..255", 1, 30, 0.5),
    "w2": ("w2: weight of the spatial kernel", 0, 12, 0.25),
    "theta_gamma": ("σ_gamma: its width, pixels", 0.5, 12, 0.5),
    "iterations": ("iterations", 1, 20, 1),
}
_PRUNES = ("0", "0.0001", "0.001", "0.01")
_ALL = "all classes"
_CRF, _TRANSFORM = "CRF", "domain transform"


class Page:
    """One browser tab: the widgets of a document, and the thread that redraws it.

    Args:
        document: receives the page.
        session: what is shown; tabs share it.
        crf: where the sliders start, of a CRF or of a domain transform; what they do not say stays as it is
            here.
        source: line that says what is shown, kept as a comment in what is saved.
        folder: below which parameters are saved.

    Attributes:
        document: the one that was given.
        behind: what stands behind the network, a CRF or a domain transform; only its widgets are seen.
        sliders: by the names of `CRFConfig`.
        transform: the sliders of a domain transform.
        choices: normalization and prune.
        variants: filter and inference, each with the parameters of its own.
        pictures: RGBA of image, network and crf (rows from the bottom up), under the key ``image``.
        status: which size is shown, how long it took, and how it scores.
        shown_class: the number of the one class that is shown; "" for all.
        copy: the parameters as text.
        legend: the classes that are seen, with the share of the image that each has.
        redraw: the thread.
    """

    def __init__(
        self, document: Document, session: Session, crf: RefinementConfig, source: str, folder: Path
    ) -> None:
        transform = crf if isinstance(crf, DomainTransformConfig) else None
        crf = crf if isinstance(crf, CRFConfig) else CRFConfig()
        self.document, self._session, self._crf = document, session, crf
        self.transform = TransformControls(transform or DomainTransformConfig())
        self.behind = select("behind the network", (_CRF, _TRANSFORM), _TRANSFORM if transform else _CRF)
        self._source, self._folder = source, folder
        self._shown: LabelMap | None = None
        self._name = _CRF  # what gave these labels
        self.sliders = {name: slider(name, SLIDERS[name], float(getattr(crf, name))) for name in SLIDERS}
        self.variants = {
            "filter": VariantControls("filter", FILTERS, crf.filter),
            "inference": VariantControls("inference", INFERENCES, crf.inference),
        }
        self.choices = {
            "normalization": select("normalization", NORMALIZATIONS, crf.normalization),
            "prune": select("prune: labels less likely everywhere are left out", _PRUNES, f"{crf.prune:g}"),
        }
        names = [("", _ALL), *((str(label), name) for label, name in enumerate(session.names))]
        self.shown_class = Select(title="show", options=names, value="", width=WIDTH, name="show")
        self.copy = CopyControls(len(session.names))
        self.opacity = Slider(title="opacity", start=0, end=1, step=0.05, value=0.5, width=WIDTH)
        self.file = TextInput(title="file", value="crf.yaml", width=WIDTH, name="file", css_classes=["file"])
        self.replace = Checkbox(label="replace", active=False, name="replace")
        self.save = Button(label="save", button_type="primary", width=WIDTH, name="save")
        self.saved = text(width=WIDTH, name="saved")
        self.status = text(name="status", sizing_mode="stretch_width", text="<b>CRF</b>: …")
        self.legend = text(name="legend", sizing_mode="stretch_width")
        self.pictures = {name: ColumnDataSource({"image": []}, name=name) for name in PICTURES}
        for widget in (*self.sliders.values(), *self.choices.values()):
            widget.on_change("value", self._changed)
        for controls in self.variants.values():
            controls.on_change(self._changed)
        self.transform.on_change(self._changed)
        self.behind.on_change("value", self._switched, self._changed)
        for widget in (self.opacity, self.shown_class):
            widget.on_change("value", self._faded)
        self.save.on_click(self._save)
        self._lay_out()
        self.redraw = Redraw(session, self._later_draw, self._later_fail)

    def start(self) -> None:
        """Paint the pictures and begin to solve; until then the page costs nothing, whoever asks for it."""
        self.pictures["image"].data = {"image": [rgba(as_rgb(self._session.image))]}
        self._paint("network")
        self._tell()
        self._changed("", None, None)

    def config(self) -> RefinementConfig:
        """What the sliders say.

        Raises:
            InputError: they say something that no CRF, or no domain transform, takes.
        """
        if self.behind.value == _TRANSFORM:
            return self.transform.value()
        values: dict[str, Any] = {
            name: self._endless(name, each) or round_digits(float(each.value))
            for name, each in self.sliders.items()
        }
        values["iterations"] = round(values["iterations"])
        values |= {name: each.value for name, each in self.choices.items()}
        values |= {name: controls.value() for name, controls in self.variants.items()}
        values["prune"] = float(values["prune"])
        return replace(self._crf, **values)

    def _endless(self, name: str, at: Slider) -> float:
        """Infinity where a slider began there and stands at its end; else 0."""
        began = float(getattr(self._crf, name))
        return began if math.isinf(began) and at.value == at.end else 0.0

    # bokeh takes callbacks with these three arguments only.
    def _switched(self, attr: str, old: object, new: object) -> None:
        for part, name in self._parts.items():
            part.visible = self.behind.value == name

    def _faded(self, attr: str, old: object, new: object) -> None:
        self._paint("network")
        self._paint("crf")
        self._tell()

    def _changed(self, attr: str, old: object, new: object) -> None:
        try:
            config = self.config()
            self.copy.show(config)
            self.redraw.request(config)
        except InputError as error:
            self._fail(str(error))

    def _later_draw(self, picture: Picture, larger_follows: bool) -> None:
        self.document.add_next_tick_callback(partial(self._draw, picture, larger_follows))

    def _later_fail(self, line: str) -> None:
        self.document.add_next_tick_callback(partial(self._fail, line))

    def _draw(self, picture: Picture, larger_follows: bool) -> None:
        self._shown = picture.labels
        name = self._name = _CRF if isinstance(picture.config, CRFConfig) else _TRANSFORM
        self._plots["crf"].title.text = f"with {name}"
        self._paint("crf")
        self._tell()
        size, session = "full size", self._session
        if picture.factor > 1:
            full = session.full_size_seconds(picture)
            rest = "full size follows" if larger_follows else f"full size would take {full:.0f} s"
            size = f"1/{picture.factor} size, {rest}"
        lines = [f"<b>{name} at {size}</b>: {picture.seconds:.2f} s"]
        found = {"network alone": session.network_metrics, f"with {name}": session.metrics(picture.labels)}
        for who, scores in found.items():
            if scores is not None:
                accuracy, miou = 100 * float(scores.pixel_accuracy), 100 * float(scores.miou)
                lines.append(f"{who}: pixel accuracy {accuracy:.2f} %, mIoU {miou:.2f} % (this image alone)")
        self.status.text = "<br>".join(lines)

    def _fail(self, line: str) -> None:
        self.status.text = f"<b>no picture:</b> {html.escape(line)}"

    def _paint(self, name: str) -> None:
        """The colors of the network's or the CRF's labels over the image, or one class, as the page says."""
        labels = self._session.network if name == "network" else self._shown
        if labels is not None:
            self.pictures[name].data = {"image": [self._picture(name, labels)]}

    def _picture(self, name: str, labels: LabelMap) -> NDArray[np.uint32]:
        session, opacity = self._session, float(self.opacity.value)
        if self.shown_class.value == "":
            return painted(session.image, labels, session.colors, opacity)
        before = session.network if name == "crf" else None
        return rgba(class_view(session.image, labels, int(self.shown_class.value), opacity, before))

    def _tell(self) -> None:
        """The classes of the network's labels and of the CRF's."""
        changes = CHANGES if self.shown_class.value else {}
        named = {meaning.replace(_CRF, self._name): color for meaning, color in changes.items()}
        text = legend(self._session, self._shown, named)
        if text != self.legend.text:
            self.legend.text = text

    def _save(self) -> None:
        path = self._folder / self.file.value.strip()
        try:
            replaced = bool(self.replace.active)
            save_crf(path, self.config(), [self._source], folder=self._folder, replace=replaced)
        except (InputError, OSError, ValueError, RuntimeError) as error:  # names that no file can have, loops
            self.saved.text = f"<b>not saved:</b> {html.escape(str(error))}"
        else:
            self.saved.text = f"saved: {html.escape(str(path.resolve()))}"

    def _lay_out(self) -> None:
        self._plots = make_plots(self._session.size, self.pictures)
        for name, plot in self._plots.items():
            plot.name = f"plot_{name}"
            self.document.add_root(plot)
        variants = [widget for controls in self.variants.values() for widget in controls.widgets]
        view = (self.shown_class, self.opacity)
        crf = [column(*each) for each in (self.sliders.values(), (*self.choices.values(), *variants))]
        transform = column(*self.transform.sliders.values())
        self._parts = {**dict.fromkeys(crf, _CRF), transform: _TRANSFORM}
        self._switched("", None, None)
        save = (self.file, self.replace, self.save, self.saved, *self.copy.widgets)
        self.document.add_root(
            column(self.behind, crf[0], transform, *view, crf[1], *save, name="controls", width=WIDTH)
        )
        told = f"Move a slider, and it is solved again. Parameters {html.escape(self._source)}"
        head = text(text=f"<b>crfnet explore</b>: {told}", name="head", sizing_mode="stretch_width")
        for part in (head, self.status, self.legend):
            self.document.add_root(part)
        self.document.template = (files("crfnet.explore") / "page.html").read_text(encoding="utf-8")
        self.document.title = "crfnet explore"

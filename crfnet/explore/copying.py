"""The parameters as text on the page, and the button that copies it."""

from typing import Any

from bokeh.models import Button, CustomJS, PreText, Select

from crfnet.crf.layer import CRFConfig
from crfnet.domain_transform import DomainTransformConfig
from crfnet.explore.controls import WIDTH
from crfnet.explore.snippets import SNIPPETS
from crfnet.explore.transform_snippets import TRANSFORM_SNIPPETS
from crfnet.segmenter import RefinementConfig

__all__ = ["CopyControls"]

# Where the page has no clipboard the text can be marked by hand.
_COPY = """
const say = (line) => { button.label = line; setTimeout(() => { button.label = "copy"; }, 1500); };
const fail = () => say("not copied: mark the text");
try { navigator.clipboard.writeText(text.text).then(() => say("copied"), fail); } catch (error) { fail(); }
"""


class CopyControls:
    """A choice of languages, the parameters in it, and a button.

    Args:
        num_classes: of the session.

    Attributes:
        language: one of `SNIPPETS`, or of `TRANSFORM_SNIPPETS` for a domain transform.
        text: what is copied.
        button: copies it in the browser.
    """

    def __init__(self, num_classes: int) -> None:
        self._num_classes = num_classes
        self._shown: RefinementConfig = CRFConfig()
        names = list(SNIPPETS)
        self.language = Select(title="as text", options=names, value=names[0], width=WIDTH, name="language")
        self.text = PreText(text="", width=WIDTH, name="snippet", css_classes=["snippet"])
        self.text.styles = {"overflow-x": "auto", "font-size": "12px"}
        self.button = Button(label="copy", width=WIDTH, name="copy", css_classes=["copy"])
        self.button.js_on_click(CustomJS(args={"text": self.text, "button": self.button}, code=_COPY))
        self.language.on_change("value", self._chosen)

    @property
    def widgets(self) -> list[Any]:
        """All of them, in the order of the page."""
        return [self.language, self.button, self.text]

    def show(self, config: RefinementConfig) -> None:
        """Write the parameters in the language that is chosen, or in the first where it knows no such."""
        self._shown = config
        names = list(TRANSFORM_SNIPPETS if isinstance(config, DomainTransformConfig) else SNIPPETS)
        self.language.options = names
        if self.language.value not in names:
            self.language.value = names[0]  # calls this again
        if isinstance(config, DomainTransformConfig):
            self.text.text = TRANSFORM_SNIPPETS[self.language.value](config, self._num_classes)
        else:
            self.text.text = SNIPPETS[self.language.value](config, self._num_classes)

    # bokeh takes callbacks with these three arguments only.
    def _chosen(self, attr: str, old: object, new: object) -> None:
        self.show(self._shown)

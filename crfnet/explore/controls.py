"""The choice of a variant on the page, with a widget for each of its own parameters, whatever they are."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from bokeh.models import Checkbox, Div, NumericInput, Select, Slider

from crfnet.config.variants import Declared, declared, name_of
from crfnet.errors import require

__all__ = ["WIDTH", "VariantControls", "select", "slider", "text"]

WIDTH = 300  #: of every widget, pixels


class VariantControls:
    """A variant of a table, chosen and set by hand; only the chosen one's parameters are seen.

    Args:
        axis: the field of `CRFConfig`.
        table: its variants by name.
        value: the one to start from.

    Attributes:
        choice: the widget with the names.
        parameters: by variant and field, the widgets of what a number, a word or a yes and no can say.
    """

    def __init__(self, axis: str, table: Mapping[str, type[Any]], value: Any) -> None:
        self._axis, self._table = axis, table
        chosen = name_of(table, value)
        self._start = {name: value if name == chosen else kind() for name, kind in table.items()}
        self.choice = Select(title=axis, options=list(table), value=chosen, width=WIDTH, name=axis)
        self.parameters: dict[str, dict[str, Any]] = {}
        for name, kind in table.items():
            made = {f.name: _widget(f, getattr(self._start[name], f.name)) for f in declared(kind)}
            self.parameters[name] = {key: widget for key, widget in made.items() if widget is not None}
        self._show()

    @property
    def widgets(self) -> list[Any]:
        """All of them, in the order of the page."""
        return [self.choice, *(widget for own in self.parameters.values() for widget in own.values())]

    def on_change(self, changed: Callable[[str, object, object], None]) -> None:
        """Call bokeh's callback whenever something is set by hand."""
        self.choice.on_change("value", self._chosen, changed)
        for widget in self.widgets[1:]:
            widget.on_change(_attribute(widget), changed)

    def value(self) -> Any:
        """The variant that the widgets say.

        Raises:
            InputError: they say something that it does not take.
        """
        name = self.choice.value
        values = {field.name: getattr(self._start[name], field.name) for field in declared(self._table[name])}
        for key, widget in self.parameters[name].items():
            values[key] = getattr(widget, _attribute(widget))
            require(f"{self._axis}: {key}", values[key], values[key] is not None, "a number")
        return self._table[name](**values)

    # bokeh takes callbacks with these three arguments only.
    def _chosen(self, attr: str, old: object, new: object) -> None:
        self._show()

    def _show(self) -> None:
        for name, own in self.parameters.items():
            for widget in own.values():
                widget.visible = name == self.choice.value


def _widget(field: Declared, value: Any) -> Any:
    """The widget for a parameter; None for a type that no widget can say, which keeps its value."""
    named = {"name": field.name, "width": WIDTH}
    if field.hint is bool:
        return Checkbox(label=field.name, active=value, **named)
    if get_origin(field.hint) is Literal:
        return Select(title=field.name, options=list(map(str, get_args(field.hint))), value=value, **named)
    if field.hint in (int, float):
        mode = "int" if field.hint is int else "float"
        return NumericInput(title=field.name, mode=mode, value=value, **named)
    return None


def _attribute(widget: Any) -> str:
    return "active" if isinstance(widget, Checkbox) else "value"


def slider(name: str, scale: tuple[str, float, float, float], value: float) -> Slider:
    """A slider that reaches its first value, whatever that is; of infinity it stands at its end.

    Args:
        name: of the parameter.
        scale: title, smallest, largest and step.
        value: the first.
    """
    title, low, high, step = scale
    value = high if math.isinf(value) else value  # stands at the end, see `Page.config`
    start, end = min(low, value), max(high, value)
    return Slider(title=title, start=start, end=end, step=step, value=value, width=WIDTH, name=name)


def select(title: str, options: Sequence[str], value: str) -> Select:
    """A choice that has its first value, whatever that is."""
    names = [*options, *([] if value in options else [value])]
    return Select(title=title, options=names, value=value, width=WIDTH, name=title.partition(":")[0])


def text(**options: Any) -> Div:
    """A text of the page, in which a name that looks like TeX is a name: MathJax would run its links."""
    return Div(disable_math=True, **options)

"""The domain transform on the page, in the place of the CRF: sliders, picture, text to copy, saved file."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from crfnet.crf.config_file import save_crf_config
from crfnet.domain_transform import DomainTransform, DomainTransformConfig
from crfnet.domain_transform.config_file import load_domain_transform, load_refinement
from crfnet.errors import InputError
from crfnet.explore import Session, save_crf
from crfnet.explore.transform_snippets import TRANSFORM_SNIPPETS, transform_as_python, transform_as_yaml
from crfnet.labels import overlay
from tests.explore.test_session import CRF, scene

pytest.importorskip("bokeh")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

from bokeh.events import ButtonClick  # noqa: E402

from crfnet.explore.snippets import as_yaml  # noqa: E402
from tests.explore.test_page import drawn, open_page, shows, until  # noqa: E402, F401

TRANSFORM = DomainTransformConfig(sigma_s=20.0, sigma_r=90.0)


def by_the_layer(session, config):
    with torch.no_grad():
        return DomainTransform(config).eval()(session.logits, session.image[None])[0].argmax(0)


def painted(session, labels):
    """RGBA as numbers, bottom row first."""
    pixels = overlay(session.image, labels, opacity=0.5).permute(1, 2, 0).numpy()
    rgba = np.full((*pixels.shape[:2], 4), 255, dtype=np.uint8)
    rgba[..., :3] = pixels
    return rgba[::-1].copy().view(np.uint32)[..., 0]


def test_the_picture_is_that_of_the_layer_and_whole_at_once():
    session = Session(*scene())
    for config in (TRANSFORM, replace(TRANSFORM, sigma_r=300.0), replace(TRANSFORM, iterations=1)):
        picture = session.preview(config)
        assert (picture.factor, picture.config) == (1, config)
        assert torch.equal(picture.labels, by_the_layer(session, config))
        assert not torch.equal(picture.labels, session.network)
        assert session.full_size(picture) is picture
    assert session.built == 0


def test_the_switch_shows_one_or_the_other(open_page, tmp_path, monkeypatch):  # noqa: F811
    session = Session(*scene())
    monkeypatch.setattr(session, "_factor_in_time", lambda config: 1)  # however busy the machine is
    page = open_page(session, CRF)
    until(page, shows(page, drawn(session, CRF)))
    assert [part.visible for part in page._parts] == [True, True, False]
    page.behind.value = "domain transform"
    assert [part.visible for part in page._parts] == [False, False, True]
    page.transform.sliders["sigma_s"].value = 20
    page.transform.sliders["sigma_r"].value = 90
    assert page.config() == TRANSFORM
    until(page, shows(page, painted(session, by_the_layer(session, TRANSFORM))))
    assert "<b>domain transform at full size</b>" in page.status.text
    page.shown_class.value = "1"
    assert "gained by the domain transform" in page.legend.text
    assert page.copy.text.text == transform_as_yaml(TRANSFORM, 4)
    page.file.value = str(tmp_path / "dt.yaml")
    page.save._trigger_event(ButtonClick(page.save))
    assert load_domain_transform(tmp_path / "dt.yaml") == TRANSFORM
    page.shown_class.value = ""
    page.behind.value = "CRF"
    until(page, shows(page, drawn(session, CRF)))
    assert page.copy.text.text == as_yaml(CRF, 4)


def test_languages_are_those_that_the_choice_has(open_page):  # noqa: F811
    page = open_page(Session(*scene()), CRF)
    page.copy.language.value = "pydensecrf"
    page.behind.value = "domain transform"
    assert page.copy.language.value == "YAML"
    assert page.copy.language.options == list(TRANSFORM_SNIPPETS)
    page.copy.language.value = "Python"
    page.transform.sliders["iterations"].value = 2
    assert "iterations=2" in page.copy.text.text
    page.behind.value = "CRF"
    assert "DenseCRF(4, config)" in page.copy.text.text


def test_it_starts_with_a_transform_where_that_is_given(open_page):  # noqa: F811
    far = DomainTransformConfig(sigma_s=300.0, sigma_r=2000.0, iterations=4)
    page = open_page(Session(*scene()), far)
    assert page.behind.value == "domain transform"
    assert page.config() == far


def test_what_no_transform_takes_is_said_on_the_page(open_page):  # noqa: F811
    page = open_page(Session(*scene()), TRANSFORM)
    page.transform.sliders["sigma_r"].value = -1
    assert "sigma_r is -1" in page.status.text


def test_python_and_yaml_say_the_same(tmp_path):
    image, logits = scene()
    names = {"image": image[None], "logits": logits}
    exec(transform_as_python(TRANSFORM, 4), names)
    assert names["config"] == TRANSFORM
    assert torch.equal(names["labels"][0], by_the_layer(Session(image, logits), TRANSFORM))
    (tmp_path / "dt.yaml").write_text(transform_as_yaml(TRANSFORM, 4))
    assert load_refinement(tmp_path / "dt.yaml") == TRANSFORM


def test_save_replaces_files_of_parameters_alone(tmp_path):
    path, other = tmp_path / "mine.yaml", tmp_path / "other.yaml"
    save_crf_config(path, CRF)
    save_crf(path, TRANSFORM, ["by eye"], replace=True)
    assert load_refinement(path) == TRANSFORM
    save_crf(path, CRF, ["by eye"], replace=True)
    assert load_refinement(path) == CRF
    other.write_text("anything: 1\n")
    with pytest.raises(InputError, match="anything"):
        save_crf(other, TRANSFORM, [], replace=True)

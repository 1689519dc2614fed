"""The page without a browser: sliders change the picture, save writes it; who may ask the server."""

import asyncio
import http.client
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from crfnet.crf.config_file import load_crf_config
from crfnet.crf.filters import FILTERS
from crfnet.crf.inference import INFERENCES, MeanField
from crfnet.crf.layer import DenseCRF
from crfnet.errors import InputError
from crfnet.explore import Session
from crfnet.labels import overlay
from tests.explore.test_session import CRF, scene

pytest.importorskip("bokeh")
# bokeh's and tornado's own: deprecated calls, and a socket left open where a port is taken
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

from bokeh.document import Document  # noqa: E402
from bokeh.events import ButtonClick  # noqa: E402

from crfnet.explore.page import Page  # noqa: E402
from crfnet.explore.server import make_server  # noqa: E402


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def served(session, crf):
    """A server in a thread of its own, as the command runs it; gives its port."""
    port, ready, servers = free_port(), threading.Event(), []

    def run():
        asyncio.set_event_loop(asyncio.new_event_loop())
        servers.append(make_server(session, crf, "a test", port))
        servers[0].start()
        ready.set()
        servers[0].io_loop.start()
        servers[0].io_loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield port
    finally:

        def stop():
            servers[0].stop()
            servers[0].io_loop.stop()

        servers[0].io_loop.add_callback(stop)
        thread.join(30)


def get(port):
    """The page as HTML."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    return text


@pytest.fixture
def open_page():
    """Pages as a server makes them, in a document without one."""
    pages = []

    def make(session, crf):
        pages.append(Page(Document(), session, crf, "a test"))
        return pages[-1]

    yield make
    for page in pages:
        page.redraw.close()


def until(page, holds):
    """Runs what the thread hands to the document, as a server's loop would, until ``holds()``."""
    for _ in range(400):
        for callback in page.document.session_callbacks:
            page.document.remove_next_tick_callback(callback)
            callback.callback()
        if holds():
            return
        time.sleep(0.05)
    pytest.fail(f"after 20 s the page says {page.status.text!r}")


def shows(page, wanted):
    return lambda: any(np.array_equal(each, wanted) for each in page.pictures["crf"].data["image"])


def drawn(session, config, opacity=0.5):
    """The picture that the layer's labels come to, bottom row first."""
    crf = DenseCRF(session.logits.shape[1], config).eval()
    with torch.no_grad():
        labels = crf.map(session.logits, session.image[None])[0]
    pixels = overlay(session.image, labels, opacity=opacity).permute(1, 2, 0).numpy()
    rgba = np.full((*pixels.shape[:2], 4), 255, dtype=np.uint8)
    rgba[..., :3] = pixels
    return rgba[::-1].copy().view(np.uint32)[..., 0]


def test_a_slider_changes_the_picture_and_save_writes_what_is_shown(open_page, tmp_path, monkeypatch):
    image, logits = scene()
    session = Session(image, logits, truth=logits[0].argmax(0))
    monkeypatch.setattr(session, "_factor_in_time", lambda config: 1)  # however busy the machine is
    page = open_page(session, CRF)
    until(page, shows(page, drawn(session, CRF)))
    assert "CRF at full size" in page.status.text
    assert "network alone: pixel accuracy 100.00 %" in page.status.text
    changed = replace(CRF, w1=9.5, iterations=6, normalization="symmetric")
    wanted = drawn(session, changed)
    assert not np.array_equal(wanted, drawn(session, CRF))
    page.sliders["w1"].value = 9.5
    page.sliders["iterations"].value = 6
    page.choices["normalization"].value = "symmetric"
    until(page, shows(page, wanted))
    assert session.built == 1

    path = tmp_path / "mine.yaml"
    page.file.value = str(path)
    click = ButtonClick(page.save)
    page.save._trigger_event(click)
    assert load_crf_config(path) == changed
    page.sliders["w1"].value = 2.0
    page.save._trigger_event(click)
    assert "exists already" in page.saved.text
    assert load_crf_config(path) == changed
    page.replace.active = True
    page.save._trigger_event(click)
    assert load_crf_config(path).w1 == 2.0


def test_what_no_crf_takes_is_said_on_the_page(open_page):
    page = open_page(Session(*scene()), CRF)
    page.sliders["theta_beta"].value = -1
    assert "theta_beta is -1" in page.status.text


def test_only_this_machine_and_only_its_own_page_is_served():
    with served(Session(*scene()), CRF) as port:
        assert "https://" not in get(port)  # nothing from elsewhere: it works offline
        with pytest.raises(InputError, match=f"--port: {port} cannot be used"):
            make_server(Session(*scene()), CRF, "a test", port)
        stranger = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": "http://elsewhere.example"}
        stranger.request("GET", "/ws", headers=upgrade | key)
        assert stranger.getresponse().status == 403
        stranger.close()
    with pytest.raises(InputError, match=r"must be in 1\.\.65535"):
        make_server(Session(*scene()), CRF, "a test", 70000)


def test_widgets_start_where_the_parameters_do_even_outside_their_range(open_page):
    far = replace(CRF, theta_alpha=301.5, prune=0.02, inference=MeanField(damping=0.5))
    page = open_page(Session(*scene()), far)
    assert page.config() == far
    assert page.sliders["theta_alpha"].end == 301.5
    page.opacity.value = 0
    (shown,) = page.pictures["network"].data["image"]
    (plain,) = page.pictures["image"].data["image"]
    assert np.array_equal(shown, plain)
    page.opacity.value = 1
    (shown,) = page.pictures["network"].data["image"]
    assert not np.array_equal(shown, plain)


def test_only_what_changed_is_painted_and_the_legend_tells_the_shares(open_page):
    image, logits = scene()
    session = Session(image, logits, names=("sky", "a<b", "sun", "sand"))
    page = open_page(session, CRF)
    until(page, shows(page, drawn(session, CRF)))
    before = {name: source.data["image"][0] for name, source in page.pictures.items()}
    changed = replace(CRF, w1=9.5)
    page.sliders["w1"].value = 9.5
    until(page, shows(page, drawn(session, changed)))
    assert page.pictures["image"].data["image"][0] is before["image"]
    assert page.pictures["network"].data["image"][0] is before["network"]
    counts = [
        each.flatten().bincount(minlength=4) for each in (session.network, session.solve(changed).labels)
    ]
    for label, name in enumerate(("sky", "a&lt;b", "sun", "sand")):
        red, green, blue = session.colors[label]
        shares = " → ".join(f"{100 * int(count[label]) / (37 * 52):.1f}" for count in counts)
        assert f'rgb({red},{green},{blue})"></span>{name} <small>{shares} %' in page.legend.text


AXES = [*(("filter", name) for name in FILTERS), *(("inference", name) for name in INFERENCES)]


@pytest.mark.parametrize(("axis", "name"), AXES)
def test_own_parameters_of_a_variant_are_widgets(open_page, axis, name):
    """Shown for the chosen variant alone; what is set by hand is in the configuration that is solved."""
    page = open_page(Session(*scene()), CRF)
    controls = page.variants[axis]
    controls.choice.value = name
    kind = {"filter": FILTERS, "inference": INFERENCES}[axis][name]
    assert getattr(page.config(), axis) == kind()
    assert list(controls.parameters[name]) == [field.name for field in fields(kind)]
    for each, own in controls.parameters.items():
        assert all(widget.visible == (each == name) for widget in own.values())
    numbers = [field for field in fields(kind) if type(field.default) is int]
    for field in numbers:
        controls.parameters[name][field.name].value = field.default + 2
        assert getattr(getattr(page.config(), axis), field.name) == field.default + 2
    if numbers:
        controls.parameters[name][numbers[0].name].value = None
        with pytest.raises(InputError, match=f"{axis}: {numbers[0].name} is None, must be a number"):
            page.config()

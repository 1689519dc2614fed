"""The page without a browser: sliders change the picture, save writes it; who may ask the server."""

import asyncio
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from crfnet.crf.config_file import load_crf_config
from crfnet.crf.filters import FILTERS
from crfnet.crf.inference import INFERENCES, MeanField
from crfnet.crf.layer import DenseCRF
from crfnet.errors import InputError
from crfnet.explore import Session
from crfnet.explore.snippets import SNIPPETS, as_yaml
from crfnet.labels import overlay
from tests.explore.test_session import CRF, scene

pytest.importorskip("bokeh")
# bokeh's and tornado's own: deprecated calls, and a socket left open where a port is taken
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

from bokeh.client import pull_session  # noqa: E402
from bokeh.document import Document  # noqa: E402
from bokeh.events import ButtonClick  # noqa: E402
from bokeh.models import Div  # noqa: E402

from crfnet.explore.page import Page  # noqa: E402
from crfnet.explore.server import MAX_PAGES, address, make_server  # noqa: E402


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextmanager
def served(session, crf, folder=Path()):
    """A server in a thread of its own, as the command runs it; gives its address."""
    port, ready, servers = free_port(), threading.Event(), []

    def run():
        asyncio.set_event_loop(asyncio.new_event_loop())
        servers.append(make_server(session, crf, "a test", folder, port))
        servers[0].start()
        ready.set()
        servers[0].io_loop.start()
        servers[0].io_loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield address(servers[0])
    finally:

        def stop():
            servers[0].stop()
            servers[0].io_loop.stop()

        servers[0].io_loop.add_callback(stop)
        thread.join(30)


def get(url, **headers):
    """Status and text of an answer."""
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=150)) as connection:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.fixture
def open_page(tmp_path):
    """Pages as a server makes them, in a document without one."""
    pages = []

    def make(session, crf):
        pages.append(Page(Document(), session, crf, "a test", tmp_path))
        pages[-1].start()
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


def test_an_infinite_width_is_the_end_of_its_slider(open_page):
    name, crf = "theta_alpha", replace(CRF, theta_alpha=float("inf"))
    page = open_page(Session(*scene()), crf)
    at = page.sliders[name]
    assert at.value == at.end < float("inf")
    assert page.config() == crf
    at.value = at.start
    assert getattr(page.config(), name) == at.start


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


def test_one_class_alone_and_what_the_crf_changed_of_it(open_page):
    image, logits = scene()
    session = Session(image, logits, names=("sky", "sea", "sky", "sand"))  # two of one name
    page = open_page(session, CRF)
    until(page, shows(page, drawn(session, CRF)))
    after = session.solve(CRF).labels
    page.shown_class.value, page.opacity.value = "1", 1
    before, label = session.network, 1
    network, crf = (
        page.pictures[name].data["image"][0].view(np.uint8).reshape(*before.shape, 4)[::-1, :, :3]
        for name in ("network", "crf")
    )
    plain = image.permute(1, 2, 0).numpy()
    had, has = (before == label).numpy(), (after == label).numpy()
    assert np.array_equal(network[had], plain[had])
    dark = np.round(0.2 * plain.mean(2, keepdims=True).repeat(3, 2))
    assert np.allclose(network[~had], dark[~had], atol=1)
    for where, color in ((has & ~had, (0, 158, 115)), (had & ~has, (213, 94, 0))):
        assert where.any()
        assert (crf[where] == color).all()
    assert np.array_equal(crf[has & had], plain[has & had])
    assert "gained by the CRF" in page.legend.text
    page.opacity.value = 0
    assert np.array_equal(page.pictures["crf"].data["image"][0], page.pictures["image"].data["image"][0])
    page.shown_class.value = ""
    assert "gained" not in page.legend.text


def test_the_text_to_copy_is_that_of_the_sliders(open_page):
    page = open_page(Session(*scene()), CRF)
    assert page.copy.text.text == as_yaml(CRF, 4)
    page.sliders["w1"].value = 9.5
    assert page.copy.text.text == as_yaml(replace(CRF, w1=9.5), 4)
    for language, write in SNIPPETS.items():
        page.copy.language.value = language
        assert page.copy.text.text == write(replace(CRF, w1=9.5), 4)


def test_what_no_crf_takes_is_said_on_the_page(open_page):
    page = open_page(Session(*scene()), CRF)
    page.sliders["theta_beta"].value = -1
    assert "theta_beta is -1" in page.status.text


def upgrade(**headers):
    """What opens a websocket."""
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
    return {"Upgrade": "websocket", "Connection": "Upgrade", **key, **headers}


def test_only_this_machine_and_only_its_own_page_is_served():
    with served(Session(*scene()), CRF) as url:
        port = urlsplit(url).port
        status, text = get(url)
        assert status == 200
        assert "https://" not in text  # nothing from elsewhere: it works offline
        with pytest.raises(InputError, match=f"--port: {port} cannot be used"):
            make_server(Session(*scene()), CRF, "a test", Path(), port)
        assert get(f"{url}ws", **upgrade(Origin="http://elsewhere.example"))[0] == 403
    with pytest.raises(InputError, match=r"must be in 1\.\.65535"):
        make_server(Session(*scene()), CRF, "a test", Path(), 70000)


@pytest.mark.parametrize("place", ["", "ws", "metadata", "autoload.js", "static/js/bokeh.min.js"])
def test_a_page_of_another_name_gets_nothing(place):
    """A name of somebody else that resolves to this machine: Host and Origin are equal, the path known."""
    with served(Session(*scene()), CRF) as url:
        port = urlsplit(url).port
        names = ["evil.example", "127.0.0.1.evil.example", "127.0.0.2", "[::2]", "localhost.", "127.1", ""]
        for host in [
            *(f"{name}:{port}" for name in names),
            "127.0.0.1",
            "localhost",
            f"127.0.0.1:{port + 1}",
            "",
        ]:
            more = {"Origin": f"http://{host}"}
            status, text = get(f"{url}{place}", Host=host, **(upgrade(**more) if place == "ws" else more))
            assert status in (400, 403), host
            assert "crfnet" not in text
        for name in ("127.0.0.1", "localhost", "[::1]"):
            if place != "ws":
                assert get(f"{url}{place}", Host=f"{name}:{port}")[0] in (200, 400), name


def test_without_the_token_nothing_is_served():
    with served(Session(*scene()), CRF) as url:
        parts = urlsplit(url)
        root, token = f"http://{parts.netloc}/", parts.path.strip("/")
        assert len(token) >= 40
        for place in (
            "",
            "ws",
            "metadata",
            "autoload.js",
            "static/js/bokeh.min.js",
            f"{token[:-1]}/",
            f"x{token}/",
        ):
            for headers in ({}, upgrade(Origin=f"http://{parts.netloc}")):
                assert get(f"{root}{place}", **headers)[0] == 404, place
    with served(Session(*scene()), CRF) as other:
        assert urlsplit(other).path != parts.path


def test_a_flood_of_requests_computes_nothing_and_is_limited(monkeypatch):
    session, solved = Session(*scene()), []
    monkeypatch.setattr(session, "preview", solved.append)
    before = threading.active_count()
    with served(session, CRF) as url, ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda _: get(url)[0], range(60)))
        assert set(codes) == {200, 503}
        assert codes.count(200) <= MAX_PAGES
        assert "crfnet-explore" not in [thread.name for thread in threading.enumerate()]
        for other in (url.rstrip("/"), f"{url}autoload.js?bokeh-autoload-element=1"):
            assert get(other)[0] == 503
        deadline = time.monotonic() + 40
        while get(url)[0] == 503:  # nobody looks at those pages: they are closed
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert solved == []
    assert threading.active_count() <= before


def test_the_thread_starts_with_the_websocket_and_ends_with_the_server():
    with served(Session(*scene()), CRF) as url, pull_session(url=url.rstrip("/")) as browser:
        browser.document.get_model_by_name("w1").value = 9.5
        browser.force_roundtrip()  # or it is not sent
        deadline = time.monotonic() + 20
        while "crfnet-explore" not in [thread.name for thread in threading.enumerate()]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert "crfnet-explore" not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_under_load(number, tmp_path):
    """While many ask for pages, and a picture is solved that takes long."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 500, 3), np.uint8)).save(
        tmp_path / "a.png"
    )
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(21, 50, 63)).astype(np.float32))
    port = free_port()
    arguments = [tmp_path / "a.png", tmp_path / "a.npy", "--no-browser", "--port", port]
    command = [sys.executable, "-m", "crfnet", "explore", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as process:
        url = process.stderr.readline().split()[0]
        assert url.startswith(f"http://127.0.0.1:{port}/")

        def ask(_):
            with suppress(OSError, http.client.HTTPException):
                get(url)

        with ThreadPoolExecutor(8) as pool, pull_session(url=url.rstrip("/")) as browser:
            browser.document.get_model_by_name("filter").value = "exact"  # no step of it can be stopped
            browser.force_roundtrip()  # or it is not sent
            pool.map(ask, range(60))
            time.sleep(1)
            process.send_signal(number)
            assert process.wait(15) == {signal.SIGTERM: 143, signal.SIGINT: 0}[number]
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    "name", ["../x.yaml", "{outside}/x.yaml", "link/x.yaml", "link.yaml", "a\0.yaml", "~/x.yaml"]
)
def test_save_writes_below_its_folder_only(name, tmp_path, monkeypatch):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    monkeypatch.setenv("HOME", str(outside))
    (folder / "link").symlink_to(outside)
    (folder / "link.yaml").symlink_to(outside / "y.yaml")
    page = Page(Document(), Session(*scene()), CRF, "a test", folder)
    page.file.value = name.replace("{outside}", str(outside))
    for page.replace.active in (False, True):
        page.save._trigger_event(ButtonClick(page.save))
        assert "not saved" in page.saved.text
    assert list(outside.iterdir()) == []
    page.file.value = str(folder / "x.yaml")
    page.save._trigger_event(ButtonClick(page.save))
    assert load_crf_config(folder / "x.yaml") == CRF


def test_a_name_is_text(open_page):
    r"""MathJax would make a link that runs of `$$\\href{javascript:...}{x}$$`; HTML is escaped."""
    image, logits = scene()
    evil = r"$$\href{javascript:alert(1)}{x}$$"
    page = open_page(Session(image, logits, names=(evil, r"\(x\)", "<script>", "d")), CRF)
    texts = [each for root in page.document.roots for each in root.select({"type": Div})]
    assert len(texts) == 4
    assert all(each.disable_math for each in texts)
    assert "<script>" not in page.legend.text


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

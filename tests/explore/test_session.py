"""The pictures are those of the layer; what does not change is not built again; small ones come first."""

import threading
import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from crfnet.crf.filters import LocalFilter, PermutohedralFilter
from crfnet.crf.inference import FrankWolfe, MeanField
from crfnet.crf.layer import CRFConfig, DenseCRF
from crfnet.errors import InputError
from crfnet.explore import Canceled, Redraw, Session, Stop
from crfnet.resize import resize_logits

CRF = CRFConfig(w1=5.0, theta_alpha=20.0, theta_beta=8.0, iterations=3, prune=1e-3)


def scene(rows=37, columns=52, classes=4):
    """Noisy scores over an image of two halves."""
    image = torch.full((3, rows, columns), 60, dtype=torch.uint8)
    image[:, :, columns // 2 :] = 190
    image += torch.randint(0, 20, image.shape, dtype=torch.uint8)
    logits = resize_logits(torch.randn(1, classes, 10, 13) * 2, (rows, columns), align_corners=False)
    logits[:, 1, :, columns // 2 :] += 1.5
    return image, logits


@pytest.fixture
def session():
    return Session(*scene())


def by_the_layer(session, config):
    with torch.no_grad():
        return DenseCRF(session.logits.shape[1], config).eval().map(session.logits, session.image[None])[0]


@pytest.mark.parametrize("normalization", ["after", "symmetric", "before", "none"])
def test_labels_are_those_of_the_layer_whatever_was_asked_before(session, normalization):
    config = replace(CRF, normalization=normalization)
    for change in ({}, {"w1": 9.0}, {"theta_beta": 4.0}, {}, {"iterations": 1}, {"w2": 0.0}, {"w1": 0.0}):
        changed = replace(config, **change)
        labels = session.solve(changed).labels
        assert torch.equal(labels, by_the_layer(session, changed))
        assert not torch.equal(labels, session.network)


@pytest.mark.parametrize("filter", ["exact", "local", "auto"])
def test_labels_are_those_of_the_layer_under_every_filter(session, filter):
    config = replace(CRF, filter=LocalFilter(window=5) if filter == "local" else filter)
    session.solve(CRF)
    assert torch.equal(session.solve(config).labels, by_the_layer(session, config))
    wider = replace(config, filter=LocalFilter(window=9))
    assert torch.equal(session.solve(wider).labels, by_the_layer(session, wider))


def test_only_widths_of_the_bilateral_kernel_build_a_lattice(session):
    session.solve(CRF)
    assert session.built == 1
    for change in ({"w1": 1.0}, {"w2": 7.0}, {"theta_gamma": 1.0}, {"iterations": 5}, {"prune": 0.0}):
        session.solve(replace(CRF, **change))
    session.solve(replace(CRF, normalization="symmetric"))
    assert session.built == 1
    session.solve(replace(CRF, theta_alpha=30.0))
    session.solve(replace(CRF, theta_beta=9.0))
    assert session.built == 3
    session.solve(CRF)  # back to where it was
    assert session.built == 3
    session.solve(CRF, factor=2)
    assert session.built == 4
    session.solve(replace(CRF, filter="local"))
    assert session.built == 4
    session.solve(replace(CRF, spatial="permutohedral"))
    session.solve(replace(CRF, spatial="permutohedral", w1=9.0))
    assert session.built == 5
    session.solve(replace(CRF, spatial="permutohedral", theta_gamma=2.0))
    assert session.built == 6


def test_memory_for_lattices_is_bounded(session, monkeypatch):
    pixels = session.image[0].numel()
    monkeypatch.setattr("crfnet.explore.kept_lattices._POINTS", 2 * pixels)
    for theta in (10.0, 20.0, 30.0):
        session.solve(replace(CRF, theta_alpha=theta))
    session.solve(replace(CRF, theta_alpha=20.0))
    assert session.built == 3
    session.solve(replace(CRF, theta_alpha=10.0))
    assert session.built == 4


def test_a_small_picture_is_that_of_the_small_image_with_smaller_widths():
    image, logits = scene(36, 52)
    session = Session(image, logits)
    picture = session.solve(CRF, factor=2)
    assert picture.factor == 2
    assert picture.labels.shape == (36, 52)
    small = F.interpolate(image[None].float(), (18, 26), mode="area").round().byte()
    crf = DenseCRF(4, replace(CRF, theta_alpha=10.0, theta_gamma=1.5)).eval()
    with torch.no_grad():
        wanted = crf.map(F.interpolate(logits, (18, 26), mode="area"), small)[0]
    assert torch.equal(picture.labels, wanted.repeat_interleave(2, 0).repeat_interleave(2, 1))
    odd = Session(*scene(37, 53)).solve(CRF, factor=3)
    assert odd.labels.shape == (37, 53)


def test_widths_shrink_with_the_image_under_every_filter():
    image, logits = scene(36, 52)
    small = F.interpolate(image[None].float(), (18, 26), mode="area").round().byte()
    for filter, smaller in ((LocalFilter(window=9), LocalFilter(window=5)), ("exact", "exact")):
        config = replace(CRF, filter=filter, spatial="local")
        labels = Session(image, logits).solve(config, factor=2).labels
        half = replace(config, filter=smaller, theta_alpha=10.0, theta_gamma=1.5)
        crf = DenseCRF(4, half).eval()
        crf.potentials["spatial"].filter = config.build_spatial_filter().for_smaller(2)
        with torch.no_grad():
            wanted = crf.map(F.interpolate(logits, (18, 26), mode="area"), small)[0]
        assert torch.equal(labels, wanted.repeat_interleave(2, 0).repeat_interleave(2, 1))


@pytest.mark.parametrize("change", [{}, {"filter": "exact"}, {"inference": FrankWolfe()}])
def test_what_is_not_wanted_any_more_is_not_begun_and_leaves_the_session_usable(session, change):
    config, stop = replace(CRF, **change), Stop()
    stop.set()
    with pytest.raises(Canceled):
        session.solve(config, stop=stop)
    assert session.built == 0
    stop.clear()
    assert torch.equal(session.solve(config, stop=stop).labels, by_the_layer(session, config))


@pytest.mark.parametrize(
    ("change", "size"),
    [
        ({"inference": MeanField(reduce=0.0)}, (200, 300)),
        ({"filter": "exact"}, (37, 52)),
        ({"inference": FrankWolfe()}, (80, 90)),
    ],
)
def test_a_stop_ends_it_between_steps(change, size):
    endless, stop, session = replace(CRF, iterations=10_000, **change), Stop(), Session(*scene(*size))
    session.solve(replace(endless, iterations=1))  # compiles
    threading.Timer(0.3, stop.set).start()
    begin = time.monotonic()
    with pytest.raises(Canceled):
        session.solve(endless, stop=stop)
    assert time.monotonic() - begin < 10  # all steps take minutes
    assert torch.equal(session.solve(CRF).labels, by_the_layer(session, CRF))


def test_scores_of_one_image():
    image, logits = scene()
    labels = logits[0].argmax(0)
    labels[:3] = 255
    session = Session(image, logits, truth=labels)
    assert session.metrics(session.network).pixel_accuracy == 1
    wrong = (session.network + 1) % 4
    assert session.metrics(wrong).miou == 0
    assert Session(image, logits).metrics(wrong) is None


def test_what_does_not_fit_is_refused():
    image, logits = scene()
    with pytest.raises(InputError, match=r"logits: shape .* 37, 52"):
        Session(image, logits[..., 1:])
    with pytest.raises(InputError, match="3 class names, must be 4"):
        Session(image, logits, names=("a", "b", "c"))
    with pytest.raises(InputError, match="labels holds 4"):
        Session(image, logits, truth=torch.full((37, 52), 4))


class Recorder:
    """Collects what `Redraw` says, and waits for it."""

    def __init__(self):
        self.pictures, self.lines, self.said = [], [], threading.Semaphore(0)

    def show(self, picture, larger_follows):
        self.pictures.append((picture, larger_follows))
        self.said.release()

    def fail(self, line):
        self.lines.append(line)
        self.said.release()

    def wait(self):
        assert self.said.acquire(timeout=60)


def test_redraw_shows_small_and_then_whole(session, monkeypatch):
    monkeypatch.setattr(PermutohedralFilter, "quick_pixels", 500)
    seen = Recorder()
    redraw = Redraw(session, seen.show, seen.fail)
    redraw.request(CRF)
    seen.wait()
    seen.wait()
    redraw.close()
    assert [(picture.factor, follows) for picture, follows in seen.pictures] == [(2, True), (1, False)]
    assert torch.equal(seen.pictures[1][0].labels, by_the_layer(session, CRF))


def test_redraw_drops_what_is_not_wanted_any_more_and_survives_errors(session, monkeypatch):
    monkeypatch.setattr(PermutohedralFilter, "quick_pixels", 500)
    monkeypatch.setattr(session, "_factor_in_time", lambda config: 2)
    seen = Recorder()
    newest = replace(CRF, w1=8.0)
    solve = session.solve

    def slow(config, factor=1, stop=None):
        if factor == 1 and config == CRF:
            redraw.request(newest)  # while the whole of the older one is under way
        return solve(config, factor, stop)

    monkeypatch.setattr(session, "solve", slow)
    redraw = Redraw(session, seen.show, seen.fail)
    redraw.request(CRF)
    for _ in range(3):
        seen.wait()
    shown = [(picture.config.w1, follows) for picture, follows in seen.pictures]
    assert shown == [(5.0, True), (8.0, True), (8.0, False)]

    def broken(*_):
        raise ValueError("not\nso")

    monkeypatch.setattr(session, "solve", broken)
    redraw.request(CRF)
    seen.wait()
    assert seen.lines == ["not so"]
    monkeypatch.setattr(session, "solve", solve)
    redraw.request(CRF)
    seen.wait()
    redraw.close()

"""Threads of our own: every count gives the same sums; forks, children and several callers do not hang."""

import multiprocessing
import os
import threading

import numpy as np
import pytest
import torch

from crfnet.kernels.cpu import threads
from crfnet.kernels.cpu.atomics import added, claim, counters_for, finish, wait
from crfnet.kernels.cpu.compile import entry
from crfnet.kernels.cpu.filtering import filter_on_lattices, lattices_of
from crfnet.kernels.cpu.lattice import build_lattice


@entry
def _sum_in_two_phases(thread, count, counters, values, parts, total):
    tasks = len(parts)
    task = claim(counters, 0)
    while task < tasks:
        for i in range(len(values) * task // tasks, len(values) * (task + 1) // tasks):
            parts[task] += values[i]
        task = finish(counters, 0)
    phase = wait(counters, 0, tasks)
    task = claim(counters, phase)
    while task < tasks:
        added(total, 0, parts[task])
        task = finish(counters, phase)
    wait(counters, phase, tasks)


def _sum(count: int | None = None) -> int:
    values, parts, total = np.arange(10_000), np.zeros(37, np.int64), np.zeros(1, np.int64)
    threads.run(_sum_in_two_phases, counters_for(2), values, parts, total, count=count)
    return int(total[0])


def _filtered() -> np.ndarray:
    rng = np.random.default_rng(0)
    lattice = build_lattice(rng.normal(size=(1, 5, 400)).astype(np.float32))
    return filter_on_lattices(rng.normal(size=(1, 9, 400)).astype(np.float32), lattices_of([lattice]))


def _in_child(queue) -> None:
    queue.put((threads.threads(), _sum(), _sum(3), _filtered()))


@pytest.fixture(autouse=True)
def _default_threads():
    yield
    threads.set_threads(None)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_each_task_is_done_once(count):
    for _ in range(50):
        assert _sum(count) == 10_000 * 9_999 // 2


def test_the_number_is_that_of_torch_unless_set():
    assert threads.threads() == torch.get_num_threads()
    threads.set_threads(3)
    assert threads.threads() == 3
    with pytest.raises(ValueError, match="number of threads is 0"):
        threads.set_threads(0)


def test_a_worker_that_never_comes_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(threads._state["pool"], "submit", lambda job: None)
    assert _sum(4) == 10_000 * 9_999 // 2


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_children_work_after_work_in_the_parent(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    expected = _filtered()
    assert _sum(2) == 10_000 * 9_999 // 2
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=_in_child, args=(queue,)) for _ in range(2)]
    for child in children:
        child.start()
    for _ in children:
        number, *sums, filtered = queue.get(timeout=120)
        assert number == 1  # a process for each core is enough
        assert sums == [10_000 * 9_999 // 2] * 2
        np.testing.assert_allclose(filtered, expected, rtol=1e-4, atol=1e-4)
    for child in children:
        child.join(timeout=30)
        assert child.exitcode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_bare_fork_has_threads_of_its_own():
    assert _sum(2) == 10_000 * 9_999 // 2
    child = os.fork()
    if child == 0:
        right = _sum(3) == 10_000 * 9_999 // 2
        os._exit(0 if right and sum(t.name.startswith("crfnet") for t in threading.enumerate()) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_several_python_threads_call_at_once():
    expected, wrong = _filtered(), []

    def work() -> None:
        for _ in range(20):
            if _sum(3) != 10_000 * 9_999 // 2 or not np.allclose(_filtered(), expected, atol=1e-4):
                wrong.append(1)

    callers = [threading.Thread(target=work) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=120)
        assert not caller.is_alive()
    assert not wrong

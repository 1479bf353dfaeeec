"""Tasks: every item is done once, by any number of threads, in the order of the tasks."""

import threading
import time

import numpy as np
import pytest

from gossamer import kernels

if not kernels.available():
    pytest.skip("Numba is not installed", allow_module_level=True)

from numba.core.types import int64, void

from gossamer.kernels.compiled import c_function
from gossamer.kernels.memory import integers
from gossamer.kernels.tasks import Program, Task, in_turn
from gossamer.kernels.team import fetch_add
from gossamer.kernels.threads import _Work


@c_function(void(int64, int64, int64, int64))
def count(table, worker, first, end):
    """Count each item; what the worker before has done of the task before is to be seen."""
    for item in range(first, end):
        fetch_add(table + 8 * item, 1)


@c_function(void(int64, int64, int64, int64))
def double_and_add(table, worker, first, end):
    """Of the cells first … end-1: twice itself, and one; what is lost if two tasks run at once, or out of order."""
    cells = integers(table)
    for item in range(first, end):
        cells[item] = 2 * cells[item] + 1


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("beside_torch", [False, True])
def test_every_item_of_every_task_is_done_once_and_in_order(threads, beside_torch):
    counts, cells = np.zeros(100, np.int64), np.zeros(7, np.int64)
    tasks = [Task(count, counts, 60, first=30), *[Task(double_and_add, cells, 7)] * 10, Task(count, counts, 0)]
    program = Program(tasks, threads, beside_torch)
    for _ in range(20):
        cells[:] = 0
        program()
        assert cells.tolist() == [2**10 - 1] * 7
    assert counts.tolist() == [0] * 30 + [20] * 60 + [0] * 10


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_series_goes_through_its_tasks_for_each_item(threads):
    tables = [np.zeros(12, np.int64) for _ in range(threads)]
    whole = np.zeros(12, np.int64)
    series = [[(Task(double_and_add, whole, 2), 2), (Task(count, own, 1, first=3), 0)] for own in tables]
    Program([in_turn(series, rounds=5, per_item=2)], threads)()
    assert whole.tolist() == [1] * 10 + [0] * 2
    assert sum(own[3] for own in tables) == 5 and sum(own.sum() for own in tables) == 5


def test_callers_of_one_program_wait_for_each_other():
    cells = np.zeros(3, np.int64)
    program = Program([Task(double_and_add, cells, 3)] * 2, 2)
    callers = [threading.Thread(target=lambda: [program() for _ in range(5)]) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert cells.tolist() == [2**30 - 1] * 3


def test_no_thread_spins_when_there_is_nothing_to_do():
    program = Program([Task(count, np.zeros(50, np.int64), 50)] * 5, 3)
    program()
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


def test_who_comes_late_is_not_let_in():
    called = []
    work = _Work(called.append, 7)
    work.help()
    work.close()
    work.help()
    assert called == [7]


@pytest.mark.parametrize("stride", [1, 2])
def test_results_are_the_same_for_every_number_of_threads(stride):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((70, 40, 3, 3), np.float32)
    conv = kernels.conv2d(weight, weight > 1, padding=1, stride=stride, activation="gelu", size=(30, 30))
    x = kernels.allocate((5, 40, 30, 30), conv.halo)
    x[...] = rng.standard_normal(x.shape)
    outs = [kernels.allocate(conv.output_shape(x.shape), conv.halo) for _ in range(4)]
    for threads, out in enumerate(outs, 1):
        conv.bind(x, out, threads=threads)()
    assert outs[0].any() and all(np.array_equal(out, outs[0]) for out in outs)

"""Where trials run and features are measured: processes of this machine, or workers on a Ray cluster.

Each process has the base model in memory and a fixed number of threads. Results depend on neither place nor number.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from tqdm import tqdm

from smidgen.errors import SmidgenError
from smidgen.models.load import LanguageModel
from smidgen.models.logprobs import score_answers
from smidgen.models.reference_store import Score
from smidgen.runs import deaf_children
from smidgen.selection.measure import Elsewhere
from smidgen.study.executors import ExecutorName, check_executor
from smidgen.study.plan import Trial
from smidgen.study.trial import TrialContext, TrialResult, TrialRunner

# run(trials, on_result): each trial once, in any order; on_result is called in the caller's process.
RunTrials = Callable[[Sequence[Trial], Callable[[Trial, TrialResult], None]], None]

_runner: TrialRunner | None = None


@dataclass(frozen=True, slots=True)
class Executor:
    """Who does the work of a command.

    Attributes:
        trials: Gives what runs a study's trials, for as long as it is entered. Of the models that trials may name, by
            that name, it asks only where it must send them.
        score: Gives the reference's log-probabilities.
        elsewhere: Measures costly columns in other processes; None where that is done in this one.
    """

    trials: Callable[[TrialContext, Callable[[], Mapping[str, LanguageModel]]], AbstractContextManager[RunTrials]]
    score: Score
    elsewhere: Elsewhere | None


@contextmanager
def open_executor(
    name: ExecutorName, *, address: str | None, workers: int, threads: int, say: Callable[[str], None]
) -> Iterator[Executor]:
    """The executor of this name.

    Args:
        address: Of a Ray cluster; None starts one on this machine.
        workers: Trials at a time; 0 for this process, or for as many as a Ray cluster has room for.
        threads: Of each.
        say: Called with lines for people.

    Raises:
        UsageError: As in `check_executor` and `ray_cluster`.
        SmidgenError: As in `ray_cluster`.
    """
    check_executor(name, address)
    if name == "local":
        yield Executor(lambda context, models: local_executor(context, workers=workers), score_answers, None)
        return
    at_once = workers or max(1, (os.cpu_count() or 1) // threads)
    # Not before it is asked for: Ray is an extra, and reads the environment when it is imported.
    from smidgen.study.cluster import ray_cluster

    with ray_cluster(address, processors=at_once * threads):
        from smidgen.study.execute_ray import ray_features, ray_score, ray_trials
        from smidgen.study.fleet import Fleet

        fleet = Fleet(workers=workers, threads=threads, say=say)
        try:
            yield Executor(
                lambda context, models: nullcontext(ray_trials(fleet, context, models())),
                partial(ray_score, fleet, threads=threads),
                partial(ray_features, fleet, threads=threads),
            )
        finally:
            fleet.close()


@contextmanager
def on_threads(n: int) -> Iterator[None]:
    """Inside, this process computes on `n` threads: sums of another number of parts differ in their last bits."""
    usual = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def _start_worker(context: TrialContext, parent: int) -> None:
    global _runner
    # Its own lock is for several processes, and leaks where one of them is ended: the bars of a worker are its own.
    tqdm.set_lock(threading.RLock())
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _runner = TrialRunner(context)


def _end_with(parent: int) -> None:
    """A worker whose study was killed must not go on computing for nobody."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _run_in_worker(trial: Trial) -> TrialResult:
    if _runner is None:
        raise RuntimeError("the worker was not started; expected _start_worker to run first")
    return _runner.run(trial)


@contextmanager
def local_executor(context: TrialContext, *, workers: int) -> Iterator[RunTrials]:
    """Yield what runs trials: in this process for `workers` = 0, else in that many processes.

    Results do not depend on `workers`; each trial depends on itself and the context alone.
    """
    if workers == 0:
        runner = TrialRunner(context)

        def run_here(trials: Sequence[Trial], on_result: Callable[[Trial, TrialResult], None]) -> None:
            for trial in trials:
                on_result(trial, runner.run(trial))

        yield run_here
        return
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(context, os.getpid()),
    )

    def run_there(trials: Sequence[Trial], on_result: Callable[[Trial, TrialResult], None]) -> None:
        # The longest first, so that no worker is left with a long one at the end.
        with deaf_children():
            running: dict[Future[TrialResult], Trial] = {
                pool.submit(_run_in_worker, trial): trial for trial in sorted(trials, key=lambda t: -t.steps)
            }
        try:
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    on_result(running.pop(future), future.result())
        except BrokenProcessPool as error:
            raise SmidgenError(
                "a worker process died, most likely for want of memory; what is finished is kept. "
                "Run the same command again to go on, with fewer --workers."
            ) from error

    try:
        yield run_there
    except BaseException:
        # Whoever interrupts a study does not wait for the trials under way.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

"""Results in other people's boards: TensorBoard's HParams, and MLflow. What is there already is not written again."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gossamer.errors import InputError
from gossamer.paths import refuse_unwritable
from gossamer.report import curve_of
from gossamer.results import Result, file_name

NUMBERS = ("value", "sparsity", "parameters", "nonzeros", "bytes", "latency_ms", "train_seconds")
TAG = "gossamer.run"
LONGEST = 500  # characters of a parameter of MLflow's


def tensorboard(results: Sequence[Result], folder: Path) -> None:
    """A run below `folder`/DOMAIN for each result: its configuration as HParams, its numbers, its learning curve.

    Raises `InputError` where TensorBoard is not installed, or the folder cannot be written.
    """
    refuse_unwritable(folder / "events")
    try:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams
    except ModuleNotFoundError as error:
        raise InputError(
            '--tensorboard needs TensorBoard, which is not installed; type: pip install "gossamer[tensorboard]"'
        ) from error
    for result in results:
        home = folder / result.domain / f"{file_name(result.config, {})}-{digest(result)}"
        if home.exists():
            continue
        metrics = dict(numbers(result))
        with SummaryWriter(home) as board:
            for part in hparams(dict(settings(result)), metrics):
                board._get_file_writer().add_summary(part)
            for name, value in metrics.items():
                board.add_scalar(name, value)
            for step, value in curve_of(result.extra.get("curve")):
                board.add_scalar("curve", value, int(step))


def mlflow(results: Sequence[Result], address: str) -> None:
    """A run for each result in the experiment of its domain, on the MLflow server or in the store at that address.

    Raises `InputError` where MLflow is not installed, or does not answer there.
    """
    try:
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ModuleNotFoundError as error:
        raise InputError(
            '--mlflow needs MLflow, which is not installed; type: pip install "gossamer[mlflow]"'
        ) from error
    for name, value in (("MAX_RETRIES", "1"), ("TIMEOUT", "10")):  # its own defaults take minutes
        os.environ.setdefault(f"MLFLOW_HTTP_REQUEST_{name}", value)
    try:
        client = MlflowClient(address)
        client.search_experiments(max_results=1)  # says at once whether anybody is there
        for domain in dict.fromkeys(result.domain for result in results):
            name = f"gossamer-{domain}"
            there = client.get_experiment_by_name(name)
            home = there.experiment_id if there else client.create_experiment(name)
            for result in (result for result in results if result.domain == domain):
                own = digest(result)
                if client.search_runs([home], f"tags.`{TAG}` = '{own}'", max_results=1):
                    continue
                tags = {TAG: own, "command": result.command, "commit": result.commit, "data": result.data}
                run = client.create_run(home, tags=tags, run_name=f"{result.method} seed {result.seed}").info.run_id
                found = [Metric(key, value, 0, 0) for key, value in numbers(result)]
                found += [Metric("curve", value, 0, int(step)) for step, value in curve_of(result.extra.get("curve"))]
                params = [Param(key, str(value)[:LONGEST]) for key, value in settings(result)]
                client.log_batch(run, found[:1000], params[:100])
                client.set_terminated(run)
    except (MlflowException, OSError) as error:
        raise InputError(f"--mlflow is {address!r}: {str(error).splitlines()[0]}") from error


def settings(result: Result) -> Iterator[tuple[str, Any]]:
    """The configuration, as plain values."""
    for name, value in {**result.config, "data": result.data}.items():
        yield name, value if isinstance(value, bool | int | float | str) else json.dumps(value)


def numbers(result: Result) -> Iterator[tuple[str, float]]:
    """What the run measured."""
    for name in NUMBERS:
        if (value := getattr(result, name)) is not None:
            yield name, float(value)


def digest(result: Result) -> str:
    """What tells the result from all others: it changes with what was run and with what came out."""
    content = json.dumps([result.domain, result.data, result.config, dict(numbers(result))], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]

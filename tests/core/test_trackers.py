import dataclasses
import sys
from pathlib import Path

import pytest

from gossamer import InputError, domains, trackers
from gossamer.cli import main


@pytest.fixture
def results(toy):
    made = [domains.load("toy").run(dataclasses.replace(domains.preset("toy"), seed=seed)) for seed in (1, 2)]
    return [dataclasses.replace(result, extra={"curve": [0.1, 0.5]}) for result in made]


def test_tensorboard_has_a_run_for_each_result_once(toy, results):
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for _ in range(2):
        trackers.tensorboard(results, toy / "board")
    runs = sorted((toy / "board" / "toy").iterdir())
    assert [len(list(run.iterdir())) for run in runs] == [1, 1]
    board = EventAccumulator(str(runs[0])).Reload()
    curve = {event.step: event.value for event in board.Scalars("curve")}
    assert curve == pytest.approx({1: 0.1, 2: 0.5})
    assert board.Scalars("value")[0].value == pytest.approx(0.8)
    metadata = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = HParamsPluginData.FromString(metadata).session_start_info
    assert start.hparams["sparsity"].number_value == 0.9 and start.hparams["method"].string_value == "dense"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of SQLAlchemy
def test_mlflow_has_a_run_for_each_result_once(toy, results):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    from mlflow.tracking import MlflowClient

    address = f"sqlite:///{toy}/runs.db"
    for _ in range(2):
        trackers.mlflow(results, address)
    client = MlflowClient(address)
    there = client.get_experiment_by_name("gossamer-toy")
    assert there is not None
    runs = client.search_runs([there.experiment_id])
    assert sorted(run.data.params["seed"] for run in runs) == ["1", "2"]
    assert runs[0].data.metrics["value"] == pytest.approx(0.8) and runs[0].info.status == "FINISHED"
    assert [point.value for point in client.get_metric_history(runs[0].info.run_id, "curve")] == [0.1, 0.5]


def test_a_tracker_that_is_not_there_is_refused_before_anything_runs(toy, monkeypatch, capsys):
    for option, value, module in (("--tensorboard", "board", "tensorboard"), ("--mlflow", "sqlite:///x", "mlflow")):
        with monkeypatch.context() as patch:
            for name in [name for name in sys.modules if name.split(".")[0] == module] + ["torch.utils.tensorboard"]:
                patch.delitem(sys.modules, name, raising=False)
            patch.setitem(sys.modules, module, None)
            with pytest.raises(SystemExit) as stop:
                main(["compare", "--domain", "toy", option, value])
        assert stop.value.code == 2 and f'pip install "gossamer[{module}]"' in capsys.readouterr().err
    assert not Path("rolled").exists()


def test_a_server_that_does_not_answer_is_refused(toy, monkeypatch):
    pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match=r"--mlflow is .http://127\.0\.0\.1:1."):
        trackers.mlflow([], "http://127.0.0.1:1")

import dataclasses
import gc
import signal
import socket
import sys
import threading

import pytest

from gossamer import InputError, cluster, domains, failures, runs
from gossamer.cli import main


def planned(**fields):
    return runs.Run("toy", dataclasses.replace(domains.preset("toy"), **fields))


# Ray leaves files and processes of its own to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def two_nodes(toy, monkeypatch):
    """A Ray cluster of two nodes with a core each, and its second node."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")  # other tests may need the memory of this machine
    node = {"num_cpus": 1, "object_store_memory": 100_000_000}
    found = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = found.add_node(**node)
    yield found, second
    found.shutdown()
    gc.collect()


def test_runs_share_the_nodes_and_a_dead_worker_or_an_error_stops_no_other(two_nodes, toy):
    found, _ = two_nodes
    work = [planned(method=method) for method in ("dies2", "dies9", "broken", "sparse")]
    said, folder = [], toy / "results"
    before = signal.getsignal(signal.SIGTERM)
    pool = runs.pool(found.address)
    assert pool.count == 2 and signal.getsignal(signal.SIGTERM) is before
    outcomes = dict(runs.run_all(work, folder, lambda run, line: said.append((run, line)), pool))
    assert outcomes[work[0]].value == outcomes[work[3]].value == pytest.approx(0.7)
    assert "died (WorkerCrashedError), twice" in str(outcomes[work[1]])
    assert str(outcomes[work[2]]) == "RuntimeError: the dice are broken"
    rolled = sorted((toy / "rolled").read_text().splitlines())
    assert rolled == ["broken 1", "dies2 1", "dies2 1", "dies9 1", "dies9 1", "sparse 1"]
    assert (work[3], "luck is being tried, roll 1 of 2") in said
    assert set(runs.finished(work, folder)) == {work[0], work[3]}
    assert [failure.method for failure in failures.read(folder, (), [], [])] == ["broken", "dies9"]


def test_what_a_lost_node_had_is_run_on_another(two_nodes, toy):
    found, second = two_nodes
    work, notices = [planned(method="sparse", seed=seed, slow=True) for seed in (1, 2)], []

    def tell(run, line):
        if isinstance(line, runs.Notice):
            notices.append(str(line))
            raise KeyboardInterrupt  # it waits for the node that is left
        if (toy / "rolled").read_text().count("sparse") == 2 and second in found.list_all_nodes():
            found.remove_node(second, allow_graceful=False)

    with pytest.raises(KeyboardInterrupt):
        list(runs.run_all(work, toy / "results", tell, runs.pool(found.address)))
    assert notices == ["its process died (NodeDiedError); it is run once more"]


def test_compare_runs_on_a_cluster(two_nodes, toy, capsys):
    found, _ = two_nodes
    main(
        ["compare", "--domain", "toy", "--method", "dense", "sparse", "--ray-address", found.address, "--format", "csv"]
    )
    assert capsys.readouterr().out.count("\n") == 3
    main(["compare", "--domain", "toy", "--method", "dense", "--ray-address", found.address, "--dry-run"])
    assert "0 s to go on 2 cores" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nowhere", "write HOST:PORT"),
        ("here:port", "write HOST:PORT"),
        ("ray://:10001", "write HOST:PORT"),
        ("127.0.0.1:1", "cannot be reached"),
        ("ray://no-such-host.invalid:10001", "cannot be reached"),
    ],
)
def test_an_address_where_nothing_answers_is_refused(address, says):
    with pytest.raises(InputError, match=says) as refused:
        cluster.refuse_unreachable(address)
    assert f"--ray-address is {address!r}" in str(refused.value)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 505 HTTP Version Not Supported\r\n\r\n", b"", None])
def test_an_address_where_something_else_answers_is_refused(answer, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            there, _ = server.accept()
            there.recv(100)
            if answer is None:
                held.append(there)  # and is silent
            else:
                there.sendall(answer)
                there.close()

        held = []
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(InputError, match=r"something else than a Ray|no answer in|cannot be reached"):
            cluster.refuse_unreachable(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()
        for there in held:
            there.close()


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r'pip install "gossamer\[ray\]"'):
        cluster.connected("auto")

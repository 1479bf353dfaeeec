import io
import json

import pytest
from rich.console import Console

from gossamer import domains, live, runs
from gossamer.cli import main


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("epoch 3/20  loss 0.1", (3, 20)),
        ("fold 2 of 5: 91.2 % recognised", (2, 5)),
        ("encoding text 1,001 of 12,000", (1001, 12000)),
        ("9/3, then 1 of 2", (1, 2)),
        ("0 of 0", None),
        ("going on", None),
    ],
)
def test_how_far_a_run_is_stands_in_its_line(line, counts):
    assert live.counted(line) == counts


def test_a_terminal_shows_each_run_with_its_count_and_time(toy):
    run = runs.Run("toy", domains.preset("toy"))
    text = io.StringIO()
    with live.Bars(Console(file=text, force_terminal=True, width=120), 4, 1) as bars:
        bars.line(run, "epoch 3/20  loss 0.1")
        bars.bars.refresh()
        bars.line(run, runs.Notice("it rains"))
        bars.line(run, runs.Notice("it rains"))
        bars.end(run, RuntimeError("no luck"))
    shown = text.getvalue()
    assert "3/20" in shown and "s to go, epoch 3/20 loss 0.1" in shown and "1/4" in shown
    assert shown.count("it rains") == 1 and "failed toy dense seed 1: no luck" in shown


def test_a_pipe_gets_no_progress(toy, capsys):
    main(["compare", "--domain", "toy", "--method", "sparse", "--format", "markdown"])
    said = capsys.readouterr()
    assert said.out.startswith("| domain |") and said.out.count("\n") == 3
    assert "luck is being tried" not in said.err and said.err.count("done toy sparse seed 1: luck 0.700") == 1
    assert "\x1b" not in said.err and not (toy / "report.html").exists()


def test_machines_get_an_event_a_line(toy, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", "--domain", "toy", "--method", "sparse", "broken", "--json", "--page", "table.csv"])
    said = capsys.readouterr()
    events = [json.loads(line) for line in said.out.splitlines()]
    assert events[0] == {"event": "plan", "runs": 2, "finished": 0}
    kinds = [event["event"] for event in events]
    assert sorted(kinds) == ["done", "failed", "plan", "progress", "progress", "report"]
    (done,), (failed,) = ([event for event in events if event["event"] == kind] for kind in ("done", "failed"))
    assert done["value"] == pytest.approx(0.7) and done["command"] == "gossamer train toy quick --method sparse"
    assert failed["error"] == "RuntimeError: the dice are broken"
    progress = next(event for event in events if event["event"] == "progress")
    assert (progress["done"], progress["of"]) == (1, 2)
    assert stop.value.code == 2 and "1 of 2 runs failed" in said.err
    assert (toy / "table.csv").read_text().count("\n") == 2


def test_what_standard_output_holds_is_said_once(toy, capsys):
    with pytest.raises(SystemExit):
        main(["compare", "--json", "--format", "csv"])
    assert "give one of them" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["report", "--format", "word"])
    assert "it must be one of markdown, csv, json, latex" in capsys.readouterr().err

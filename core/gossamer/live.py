"""What a comparison says while it runs: bars on a terminal, a line a finished run elsewhere, or JSON for machines."""

import json
import re
import time
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gossamer.results import Result
from gossamer.runs import Notice, Run, command

COUNT = re.compile(r"(\d[\d,]*) ?(?:of|/) ?(\d[\d,]*)")


def counted(line: str) -> tuple[int, int] | None:
    """How far a run is, (3, 20), where its line says `epoch 3 of 20` or `step 3/20`; else None."""
    for found in COUNT.finditer(line):
        done, of = (int(part.replace(",", "")) for part in found.groups())
        if done <= of and of:
            return done, of
    return None


def told(run: Run, outcome: Result | Exception) -> str:
    """How a run ended, in a line."""
    if isinstance(outcome, Exception):
        return f"failed {run}: {outcome}"
    return f"done {run}: {outcome.metric} {outcome.value:.3f} ({outcome.seconds or outcome.train_seconds:.0f} s)"


class Bars:
    """For a person: a bar for all, one for each run that goes, with its last line and the time it still takes.

    Where the console is no terminal, a line for each run that ended, and nothing on the way.
    """

    def __init__(self, console: Console, total: int, finished: int) -> None:
        text = TextColumn("{task.fields[line]}", markup=False)
        name = TextColumn("{task.description}", markup=False)
        self.bars = Progress(
            name, BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), text, console=console, transient=True
        )
        self.total, self.finished = total, finished
        self.began: dict[Run, float] = {}
        self.tasks: dict[Run, TaskID] = {}
        self.notices: dict[Run, str] = {}

    def __enter__(self) -> Self:
        self.all = self.bars.add_task("compare", total=self.total, completed=self.finished, line="")
        if self.bars.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def line(self, run: Run, line: str) -> None:
        """Show a run's last line, and from the count that it names the time to go."""
        if isinstance(line, Notice):
            if self.notices.get(run) != line:
                self.bars.console.print(f"{run}: {line}", style="yellow", markup=False, soft_wrap=True)
            self.notices[run] = line
            return
        if run not in self.tasks:
            self.tasks[run] = self.bars.add_task(str(run), total=None, line="")
            self.began[run] = time.monotonic()
        text, (done, of) = " ".join(line.split()), counted(line) or (0, 0)
        if 0 < done < of and "to go" not in line:
            text = f"{(time.monotonic() - self.began[run]) * (of / done - 1):.0f} s to go, {text}"
        self.bars.update(self.tasks[run], line=text, total=of or None, completed=done if of else None)

    def end(self, run: Run, outcome: Result | Exception) -> None:
        """Print how a run ended in place of its bar."""
        if run in self.tasks:
            self.bars.remove_task(self.tasks.pop(run))
        self.bars.advance(self.all)
        style = "red" if isinstance(outcome, Exception) else None
        self.bars.console.print(told(run, outcome), style=style, markup=False, highlight=False, soft_wrap=True)


class Lines:
    """For a machine: one JSON object a line on standard output, whose `event` is plan, progress, done or failed."""

    def __init__(self, console: Console, total: int, finished: int) -> None:
        say("plan", runs=total, finished=finished)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def line(self, run: Run, line: str) -> None:
        """An event `progress`: the line, and how far the run is where the line says so."""
        done, of = counted(line) or (None, None)
        say("progress", run, line=line, done=done, of=of)

    def end(self, run: Run, outcome: Result | Exception) -> None:
        """An event `done` with the value, or `failed` with the error."""
        if isinstance(outcome, Exception):
            say("failed", run, error=str(outcome))
        else:
            say("done", run, metric=outcome.metric, value=outcome.value, seconds=outcome.seconds)


def say(event: str, run: Run | None = None, **more: Any) -> None:
    """Print one event for a machine."""
    named = {"domain": run.domain, "name": run.name, "command": command(run.domain, run.config)} if run else {}
    print(json.dumps({"event": event, **named, **more}), flush=True)

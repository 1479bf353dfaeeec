"""The domains, their presets and commands, and what they lack."""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from gossamer import domains
from gossamer.errors import InputError


@dataclass(frozen=True)
class Options:
    """None: the command has nothing to choose."""


def main(options: Options) -> None:
    """Print a table with a row for each domain, and below it how to install what is missing."""
    table, missing = Table("domain", "metric", "presets", "commands"), []
    for name in domains.names():
        try:
            domain = domains.load(name)
        except InputError as error:
            missing.append(str(error))
            continue
        arrow = "↑" if domain.HIGHER_IS_BETTER else "↓"
        table.add_row(name, f"{domain.METRIC} {arrow}", ", ".join(domain.PRESETS), ", ".join(domain.COMMANDS))
        if lacking := domains.lacking(name):
            missing.append(domains.remedy(name, ", ".join(lacking)))
    console = Console(soft_wrap=True)
    console.print(table)
    for reason in missing:
        console.print(reason, markup=False, highlight=False)

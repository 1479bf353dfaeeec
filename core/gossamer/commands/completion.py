"""Print what makes your shell complete these commands, their presets and their options.

gossamer completion bash > ~/.local/share/bash-completion/completions/gossamer
gossamer completion zsh > ~/.zfunc/_gossamer        (a folder of $fpath)
gossamer completion fish > ~/.config/fish/completions/gossamer.fish
"""

import dataclasses
import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, OmitSubcommandPrefixes, Positional, Suppress, subcommand

from gossamer import domains
from gossamer.cli import COMMANDS
from gossamer.errors import InputError


@dataclass(frozen=True)
class Options:
    """Which shell to complete for."""

    shell: Positional[Literal["bash", "zsh", "fish"]]
    """the shell that completes"""


def main(options: Options) -> None:
    """Print the script of tyro's own making; it stands for the commands and domains that are installed now."""
    tyro.cli(_choice("Gossamer", _all()), prog="gossamer", args=["--tyro-write-completion", options.shell, "-"])


def _all() -> Iterable[Any]:
    """Every command and every domain, as a subcommand each."""
    installed = [name for name in domains.names() if _loads(name)]
    for name, line in COMMANDS.items():
        if name == "train":
            yield _named(name, _choice("Train", [_named(d, _choice(d, _presets(d))) for d in installed]), line)
        else:
            yield _named(name, importlib.import_module(f"gossamer.commands.{name}").Options, line)
    for name in installed:
        yield _named(name, _choice(name, _commands(name)))


def _presets(domain: str) -> Iterable[Any]:
    for name, config in domains.load(domain).PRESETS.items():
        yield Annotated[type(config), subcommand(name, default=config)]


def _commands(domain: str) -> Iterable[Any]:
    yield _named("train", _choice(f"Train{domain}", _presets(domain)))
    for name, line in domains.load(domain).COMMANDS.items():
        try:
            yield _named(name, domains.command(domain, name).Options, line)
        except InputError:  # what it needs is not installed
            yield _named(name, dataclasses.make_dataclass(name, []), line)


def _loads(domain: str) -> bool:
    try:
        return bool(domains.load(domain).PRESETS)
    except InputError:
        return False


def _named(name: str, kind: Any, line: str | None = None) -> Any:
    return Annotated[kind, subcommand(name, description=line)]


def _choice(name: str, kinds: Iterable[Any]) -> Any:
    """A dataclass whose one field is one of the kinds."""
    union = reduce(or_, [*kinds, Annotated[None, Suppress]])  # a union has two members at least
    return OmitArgPrefixes[OmitSubcommandPrefixes[dataclasses.make_dataclass(name, [("command", union)])]]

"""The command line: one way to every command of the core and of the domains, and one answer to every error.

    gossamer COMMAND …            one of the core's, gossamer.commands.COMMAND
    gossamer train DOMAIN …       trains one network
    gossamer DOMAIN               lists the domain's commands
    gossamer DOMAIN COMMAND …     the same as python -m gossamer_DOMAIN.COMMAND …

A command is a module whose `Options` are read by tyro and whose `main(options)` returns an exit status or None.
"""

import contextlib
import importlib
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from types import ModuleType
from typing import Any

from gossamer import domains
from gossamer.errors import InputError, Stopped, nearest

COMMANDS = {
    "list": "the domains, their presets and commands, and what they lack",
    "train": "train one network: gossamer train DOMAIN [PRESET]",
    "compare": "run methods beside each other, and compare them",
    "report": "print the table of all results, and write the page",
    "new": "write a domain of your own, a folder that works at once",
    "doctor": "what is installed, and what this machine gives the kernels",
    "completion": "what makes your shell complete these commands",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The `gossamer` command. Exit status 2 for input that a person can mend, 130 where it was stopped."""
    with answering():
        match list(sys.argv[1:] if arguments is None else arguments):
            case [] | ["-h" | "--help", *_]:
                print(overview())
            case ["--version", *_]:
                from gossamer import __version__

                print(f"gossamer {__version__}")
            case ["train", domain, *rest] if not domain.startswith("-"):
                _train(domain, rest, f"gossamer train {domain}")
            case ["train", "-h" | "--help", *_]:
                print(f"usage: gossamer train DOMAIN [PRESET] …\n\nThe domains: {', '.join(domains.names())}.")
            case ["train", *_]:
                known = ", ".join(domains.names())
                raise InputError(f"train needs a domain: gossamer train DOMAIN [PRESET], with one of {known}.")
            case [command, *rest] if command in COMMANDS:
                _run(importlib.import_module(f"gossamer.commands.{command}"), rest, f"gossamer {command}")
            case [domain] | [domain, "-h" | "--help"] if domain in domains.names():
                print(overview_of(domain))
            case [domain, command, *rest] if domain in domains.names():
                _run_of_domain(domain, command, rest, f"gossamer {domain} {command}")
            case [word, *_]:
                choices = [*COMMANDS, *domains.names()]
                near, known = nearest(word, choices), ", ".join(choices)
                raise InputError(f"there is no command {word!r}{near}; there are {known}.")


def run_command(domain: str, command: str, arguments: Sequence[str] | None = None) -> None:
    """What `python -m gossamer_DOMAIN.COMMAND` runs."""
    with answering():
        words = list(sys.argv[1:] if arguments is None else arguments)
        _run_of_domain(domain, command, words, f"python -m gossamer_{domain}.{command}")


def train_command(domain: str, arguments: Sequence[str] | None = None) -> None:
    """What `python -m gossamer_DOMAIN.train` runs."""
    with answering():
        _train(domain, list(sys.argv[1:] if arguments is None else arguments), f"python -m gossamer_{domain}.train")


def _train(domain: str, words: list[str], prog: str) -> None:
    from gossamer.commands.train import train

    train(domain, words, prog)


def _run_of_domain(domain: str, command: str, words: list[str], prog: str) -> None:
    if command == "train":
        return _train(domain, words, prog)
    with domains.needing(domain):
        _run(domains.command(domain, command), words, prog)


def _run(module: ModuleType, words: list[str], prog: str) -> None:
    """Parse the options of a command, run it, and exit with its status."""
    from gossamer.options import parse, spelled

    about = re.sub(r"\n+(?=gossamer |python |torchrun )", "\n\n", module.__doc__ or "")  # a command keeps its line
    read = getattr(module, "parse", None) or partial(parse, module.Options)  # a command may read its words itself
    options = read(words, prog=prog, description=about)
    with spelled(module.Options):
        status = module.main(options)
    if status:
        raise SystemExit(status)


def overview() -> str:
    """What `gossamer --help` prints."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        (
            "usage: gossamer COMMAND …\n\nSparse neural networks that are really lighter.\n",
            *(f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()),
            f"\nThe domains {', '.join(domains.names())} have commands of their own; gossamer DOMAIN lists them.",
            "Each command has its --help; gossamer --version says which version this is.",
        )
    )


def overview_of(domain: str) -> str:
    """What `gossamer DOMAIN` prints."""
    benchmark = domains.load(domain)
    commands = {"train": f"train one network, by a preset: {', '.join(benchmark.PRESETS)}", **benchmark.COMMANDS}
    width = max(map(len, commands))
    package = sys.modules.get(domains.package(domain))
    told = (package and package.__doc__) or getattr(benchmark, "__doc__", None) or domain
    about = told.strip().splitlines()[0]
    return "\n".join(
        (
            f"usage: gossamer {domain} COMMAND …\n\n{about}\n",
            *(f"  {name:<{width}}  {line}" for name, line in commands.items()),
            "\nEach command has its --help.",
        )
    )


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Ends a command as a person expects: one message and status 2 for an `InputError` and for a file that refuses,
    what is true of what was kept and status 130 at Ctrl-C and SIGTERM, silence where the reader of a pipe has gone.
    """
    try:
        with _sigterm_stops():
            yield
            sys.stdout.flush()
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None
    except (InputError, OSError) as error:
        if isinstance(error, OSError) and error.filename is None:
            raise
        _say(str(error) if isinstance(error, InputError) else f"{error.filename}: {error.strerror}")
        raise SystemExit(2) from None
    except KeyboardInterrupt as stopped:
        _say(str(stopped) or "stopped")
        raise SystemExit(130) from None


@contextlib.contextmanager
def _sigterm_stops() -> Iterator[None]:
    """Lets SIGTERM raise `Stopped`, so that what has to be put away is."""

    def stop(*_: Any) -> None:
        raise Stopped("stopped")

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _say(text: str) -> None:
    print(f"gossamer: {text}", file=sys.stderr)

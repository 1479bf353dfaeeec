"""What is installed, and what this machine gives the kernels: processor, threads, caches."""

import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gossamer import domains, paths
from gossamer.errors import InputError
from gossamer.results import commit, versions
from gossamer.threads import cores


@dataclass(frozen=True)
class Options:
    """None: the command has nothing to choose."""


def main(options: Options) -> None:
    """Print a section for each question."""
    for title, lines in (
        ("installed", installed()),
        ("extras", extras()),
        ("processor", processor()),
        ("caches", caches()),
    ):
        print(f"{title}\n" + "".join(f"  {line}\n" for line in lines))


def installed() -> Iterator[str]:
    """The versions that a result depends on, and the commit of the checkout where this is one."""
    yield ", ".join(f"{name} {version}" for name, version in versions().items())
    yield platform.platform()
    if checkout := commit():
        yield f"commit {checkout}"


def extras() -> Iterator[str]:
    """For each domain and extra, whether it is whole, or the line that installs what it lacks."""
    for name in domains.names():
        try:
            domains.load(name)
            missing = domains.lacking(name)
        except InputError as error:
            yield str(error)
            continue
        yield domains.remedy(name, ", ".join(missing)) if missing else f"{name}: whole"
    for extra in ("report", "onnx", "integrations", "ray", "tensorboard", "mlflow"):
        missing = domains.lacking_of("gossamer", extra)
        fix = f'lacks {", ".join(missing)}; type: pip install "gossamer[{extra}]"'
        yield f"{extra}: {fix if missing else 'whole'}"


def processor() -> Iterator[str]:
    """What the kernels are compiled for, on how many threads, and whether there is an accelerator."""
    import torch

    from gossamer.kernels.target import available, target

    if available():
        found = target()
        yield f"{found.name}: kernels compute on vectors of {found.lanes} floats, {found.registers} registers"
    else:
        yield "the kernels run in plain NumPy, slowly: Numba is not installed; type: pip install numba"
    threads = f"torch computes on {torch.get_num_threads()} threads"
    yield f"{cores()} cores for this process, {os.cpu_count()} in the machine; {threads}"
    for name, value in os.environ.items():
        if name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") or name.startswith("NUMBA_"):
            yield f"{name}={value}"
    there = torch.cuda.is_available()
    yield f"CUDA: {torch.cuda.get_device_name()}" if there else "CUDA: no device that torch can use"
    if importlib.util.find_spec("lightning_fabric") is None:
        yield "lightning-fabric is not installed, so no domain trains"


def caches() -> Iterator[str]:
    """Each cache below the one folder with its size; all can be deleted at any time."""
    try:
        home = paths.cache()
    except OSError as error:
        yield f"none: {error.strerror}"
        return
    yield f"{home} (each can be deleted at any time)"
    for folder in sorted(home.iterdir()) if home.is_dir() else []:
        yield f"{folder.name}: {size(folder) / 1e6:,.1f} MB"


def size(path: Path) -> int:
    """The bytes of all files below a folder, or of a file."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())

"""Does `gossamer.load` survive every file? Mutated files by the hundred thousand, judged by a second reader.

    python core/benchmarks/fuzz_files.py --files 100000 --seed 0

A file's bytes are mutated at random; in four files of five the checksum is then made to match, so that what lies
beneath it is tried as well: header, offsets, shapes, dtypes, names, bitmaps, gaps, scales. For each file `load` must
either raise `InputError` and leave the model as it was, or fill the model with exactly what a slow reader (the
safetensors library and plain Python, which shares no code with the package) finds in the file; a file whose checksum
was not mended must be refused. Anything else, any other exception, or a load of over 5 seconds counts as a failure, and
the exit status is 1.
"""

import argparse
import json
import random
import resource
import signal
import struct
import sys
import time
from collections import Counter
from typing import Any

import safetensors
import safetensors.torch
import torch
from slow_reader import read_slowly
from torch import nn

import gossamer
from gossamer import files
from gossamer.files import coding, container

SECONDS = 5
NUMBERS = (
    -1,
    0,
    1,
    7,
    8,
    255,
    2**31,
    2**32,
    2**53 + 1,
    2**63,
    2**64 - 1,
    2**64,
    10**30,
    0.5,
    1e400,
    True,
    None,
    "1",
    [],
)
WORDS = (
    "F32",
    "F64",
    "F16",
    "I8",
    "U8",
    "U16",
    "BOOL",
    "BF16",
    "F8_E5M2",
    "C64",
    "F4",
    "",
    "__metadata__",
    "sha256",
    "tied",
)


def example(generator: torch.Generator) -> nn.Module:
    """A small model that makes a file hold every kind of part: dense, bitmap, gaps of both widths, ties, bools."""
    model = nn.Module()
    shapes = {"dense": (3, 4), "dead": (2, 3), "bitmap": (5, 7), "short": (8, 40), "long": (2, 900), "narrow": (6, 30)}
    for name, shape in shapes.items():
        weight = torch.randn(shape, generator=generator, dtype=torch.float16 if name == "narrow" else torch.float32)
        live = {"dense": 1.0, "dead": 0.0, "bitmap": 0.4, "short": 0.05, "long": 0.002, "narrow": 0.1}[name]
        weight *= torch.rand(shape, generator=generator) < live
        model.register_parameter(name, nn.Parameter(weight))
    model.register_parameter("bias", nn.Parameter(torch.randn(3, generator=generator)))
    model.register_parameter("tied", nn.Parameter(model.get_parameter("dense").data))
    model.register_buffer("flags", torch.tensor([True, False, True]))
    model.register_buffer("steps", torch.tensor(3))
    return model


def originals(model: nn.Module) -> list[bytes]:
    """The model's files with its non-zeros as topology, with masks, with float16 and with int8 values."""
    masks = {name: p != 0 for name, p in model.named_parameters() if p.dim() > 1}
    return [
        files.to_bytes(model, masks=masks),
        files.to_bytes(model),
        files.to_bytes(model, masks=masks, values="float16", about={"kind": "x", "sizes": [1, 2.5]}),
        files.to_bytes(model, masks=masks, values="int8"),
    ]


def mutate_bytes(content: bytearray, rng: random.Random) -> None:
    """Change, drop, repeat or add bytes, once to three times."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(content) + 1)
        length = min(rng.choice((1, 1, 2, 4, 8, 64)), len(content) - at)
        match rng.randrange(8):
            case 0 | 1 if length:
                content[at] ^= 1 << rng.randrange(8)
            case 2 if length:
                content[at : at + length] = rng.randbytes(length)
            case 3 if length:
                content[at : at + length] = bytes([rng.choice((0, 255, 127, 128, 48, 34, 44, 125))]) * length
            case 4:
                del content[at:]
            case 5:
                del content[at : at + length]
            case 6:
                content[at:at] = content[at : at + length]
            case _:
                content += rng.randbytes(length)


def mutate_header(content: bytearray, rng: random.Random) -> bytearray:
    """Change the header's JSON: numbers, names, dtypes, shapes, offsets, the description of coded tensors."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    metadata = header["__metadata__"]
    for key in ("coded", "tied"):
        metadata[key] = json.loads(metadata[key])
    for _ in range(rng.randint(1, 2)):
        mutate_value(header, rng)
    if isinstance(metadata := header.get("__metadata__"), dict):
        for key in ("coded", "tied"):
            if not isinstance(metadata.get(key), str) and rng.random() < 0.98:
                metadata[key] = json.dumps(metadata.get(key))
    text = json.dumps(header, separators=(",", ":"))
    if rng.random() < 0.1:  # a name twice
        name = rng.choice(list(header))
        text = text[:-1] + "," + json.dumps({name: header[name]})[1:]
    if rng.random() < 0.02:
        text = text[:-1] + ',"x":' + "[" * 100_000
    encoded = text.encode()
    return bytearray(struct.pack("<Q", len(encoded)) + encoded + content[8 + length :])


def mutate_value(tree: Any, rng: random.Random) -> None:
    """Change one place of a JSON tree, the deeper the likelier."""
    parent, key = tree, rng.choice(list(tree))
    while isinstance(parent[key], dict | list) and parent[key] and rng.random() < 0.9:
        parent = parent[key]
        key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
    value = parent[key]
    match rng.randrange(6):
        case 0 if type(value) is int:
            parent[key] = value + rng.choice((-8, -4, -1, 1, 4, 8))
        case 1:
            del parent[key]
        case 2 if isinstance(parent, dict):
            parent[rng.choice([*parent, *WORDS])] = parent.pop(key)
        case 3 if isinstance(parent, dict):
            parent[key] = parent[rng.choice(list(parent))]
        case 4 if isinstance(value, str):
            parent[key] = rng.choice((*WORDS, value + "x", value[1:]))
        case 5 if isinstance(value, list):
            rng.shuffle(value)
        case _:
            parent[key] = rng.choice(NUMBERS) if type(value) is not bool else not value


def mutate_parts(original: bytes, rng: random.Random) -> bytes:
    """A container without fault whose tensors are cut, grown, cast, reshaped, renamed, dropped or exchanged."""
    tensors = safetensors.torch.load(original)
    length = int.from_bytes(original[:8], "little")
    metadata = json.loads(original[8 : 8 + length])["__metadata__"]
    for _ in range(rng.randint(1, 2)):
        name, other = rng.choice(list(tensors)), rng.choice(list(tensors))
        flat = tensors[name].reshape(-1)
        match rng.randrange(7):
            case 0:
                tensors[name] = flat[rng.randint(0, len(flat)) :]
            case 1:
                tensors[name] = torch.cat([flat, flat[: rng.randint(1, 9)]])
            case 2:
                tensors[name] = flat.view(torch.uint8).view(rng.choice((torch.int8, torch.bool, torch.uint8)))
            case 3:
                tensors[name] = tensors[name].to(rng.choice(list(coding.NAMES)[:-1]))
            case 4:
                tensors[name] = flat.reshape(rng.choice(((-1, 1), (1, -1), (1, 1, -1))))
            case 5:
                kinds = ("bitmap", "gaps", "scales", "values")
                tensors[f"{name.rpartition('.')[0] or name}.{rng.choice(kinds)}"] = tensors.pop(name)
            case _:
                tensors[name], tensors[other] = tensors[other], tensors[name]
    if rng.random() < 0.3:
        coded = json.loads(metadata["coded"])
        mutate_value(coded, rng)
        metadata["coded"] = json.dumps(coded)
    del metadata["sha256"]
    return container.pack({name: coding.entry_of(tensor.contiguous()) for name, tensor in tensors.items()}, metadata)


def mutate(original: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A kind of mutation and the bytes it makes of a file."""
    content = bytearray(original)
    data = 8 + int.from_bytes(content[:8], "little")
    kind = rng.choice(("bytes", "sealed bytes", "sealed data", "sealed header", "sealed parts"))
    match kind:
        case "sealed parts":
            return kind, mutate_parts(original, rng)
        case "sealed header":
            content = mutate_header(content, rng)
        case "sealed data":
            for _ in range(rng.choice((1, 1, 2, 9))):
                content[rng.randrange(data, len(content))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        case _:
            mutate_bytes(content, rng)
    return kind, container.seal(content) if kind.startswith("sealed") else bytes(content)


def bits(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
    """Each tensor's bytes."""
    return {name: tensor.reshape(-1).contiguous().view(torch.uint8).numpy().tobytes() for name, tensor in state.items()}


def judge(content: bytes, sealed: bool, model: nn.Module, before: dict[str, bytes]) -> str:
    """What became of a file: "refused: …", "accepted, rightly" or "FAILED: …"; the model stays as it was."""
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        masks = files.from_bytes(content, model)
    except gossamer.InputError as error:
        return f"refused: {error}" if bits(model.state_dict()) == before else f"FAILED: changed the model, then {error}"
    except BaseException as error:
        return f"FAILED: {type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    after = bits(model.state_dict())
    model.load_state_dict(start)
    if not sealed:
        return "FAILED: accepted a file whose checksum does not match"
    try:
        expected = read_slowly(content)
    except Exception as error:
        return f"FAILED: accepted what the slow reader refuses: {type(error).__name__}: {error}"
    found = {name: masks[name].reshape(-1).tolist() for name in masks}
    if after != {name: raw for name, (raw, _) in expected.items()}:
        return "FAILED: filled the model with other values than the slow reader found"
    if any(found.get(name) != mask for name, (_, mask) in expected.items() if mask is not None):
        return "FAILED: returned other masks than the slow reader found"
    return "accepted, rightly"


def stop(*_: object) -> None:
    """Answer the alarm clock."""
    raise TimeoutError(f"a load of over {SECONDS} seconds")


def fuzz(count: int, seed: int) -> tuple[Counter[str], list[str], float]:
    """Verdicts by kind of mutation, what failed, and the longest load in seconds."""
    rng = random.Random(seed)
    source, model = (example(torch.Generator().manual_seed(seed + number)) for number in range(2))
    before = bits(model.state_dict())
    contents = originals(source)
    signal.signal(signal.SIGALRM, stop)
    verdicts: Counter[str] = Counter()
    failures: list[str] = []
    longest = 0.0
    for number in range(count):
        original = contents[number % len(contents)]
        kind, content = mutate(original, rng)
        while content == original:
            kind, content = mutate(original, rng)
        start = time.perf_counter()
        verdict = judge(content, kind.startswith("sealed"), model, before)
        longest = max(longest, time.perf_counter() - start)
        verdicts[f"{kind}: {verdict.split(':')[0]}"] += 1
        if verdict.startswith("FAILED"):
            failures.append(f"file {number} ({kind}): {verdict}")
    return verdicts, failures, longest


def main() -> None:
    """Print the verdicts; exit with status 1 where one is a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    verdicts, failures, longest = fuzz(arguments.files, arguments.seed)
    for verdict, count in sorted(verdicts.items()):
        print(f"{count:8d}  {verdict}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    seconds = time.perf_counter() - start
    print(f"{arguments.files} files in {seconds:.0f} s, longest {longest * 1000:.0f} ms, peak memory {memory} MiB")
    print(*failures[:20], sep="\n")
    print(f"{len(failures)} failures")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()

"""Which recordings a folder holds: label, speaker and part of each, by the layout of a data set or by a pattern."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from gossamer import InputError
from gossamer_speech.audio import SUFFIXES, UnusableError, pauses

FSDD = "git clone https://github.com/Jakobovski/free-spoken-digit-dataset, then --data-dir its folder 'recordings'"
GUESSES = (
    "{label}/{speaker}_nohash_{n}",
    "{label}_{speaker}_{n}",
    "{label}/{speaker}_{n}",
    "{label}/{speaker}-{n}",
    "{label}/{speaker}/{n}",
)
UNKNOWN = "speakers unknown: may be optimistic"


@dataclass(frozen=True)
class Recording:
    """One word said once: the samples from `start` to `stop` of a file; `part` is "train", "test" or "" (undecided)."""

    path: Path
    label: str
    speaker: str
    part: str = ""
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Found:
    """What a folder holds; `how` says how labels and speakers were told, `caveat` what a result must say of it."""

    recordings: list[Recording]
    how: str
    caveat: str = ""
    left_out: list[str] = field(default_factory=list)


def find(data: str, folder: Path, speaker: str | None = None) -> Found:
    """The recordings of a data set's folder, sorted by path; raise `InputError` where there are none.

    `speaker` is the pattern of a plain folder, such as "{label}_{speaker}_{n}": matched against a file's path below the
    folder without its suffix, or against its last parts where the pattern has fewer.
    """
    if not folder.is_dir():
        raise InputError(f"the data folder {folder} does not exist or is a file. {REMEDIES[data]}")
    found = LAYOUTS[data](folder, speaker) if data == "folder" else LAYOUTS[data](folder)
    if not found.recordings:
        raise InputError(f"{folder} holds no recordings. {REMEDIES[data]}")
    return found


def beside(out: Path, text: str | None = None) -> Path:
    """NAME.txt beside a file to be written, refused where it is there without that file, and not with this text."""
    path = out.with_suffix(".txt")
    if path.exists() and not out.exists() and (text is None or path.read_bytes() != text.encode()):
        raise InputError(f"{path} exists, and would be overwritten; move it, or name another file than {out}.")
    return path


def files(folder: Path, suffixes: Iterable[str] = SUFFIXES) -> list[Path]:
    """The audio files below a folder, but for those in folders that begin with "_" or "."."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def digits(folder: Path) -> Found:
    """The Free Spoken Digit Dataset, `{digit}_{speaker}_{index}.wav`; its own split tests on the indices 0 to 4.

    A speaker has each digit fifty times; fewer means a folder that is half-written.
    """
    home = folder / "recordings" if (folder / "recordings").is_dir() else folder
    recordings = []
    for path in sorted(home.glob("*.wav")):
        match = re.fullmatch(r"(\d)_(\w+)_(\d+)\.wav", path.name)
        if not match:
            raise InputError(f"{path} is not named {{digit}}_{{speaker}}_{{index}}.wav. Remove it, or {FSDD}.")
        recordings.append(Recording(path, match[1], match[2], "test" if int(match[3]) < 5 else "train"))
    names = {recording.path.name for recording in recordings}
    for speaker in sorted({recording.speaker for recording in recordings}):
        every = [f"{digit}_{speaker}_{index}.wav" for digit in range(10) for index in range(50)]
        missing = [name for name in every if name not in names]
        if missing:
            raise InputError(
                f"{home} lacks {len(missing)} of the 500 recordings of {speaker!r}, {missing[0]} among them, as a copy "
                f"does that was cut short. {REMEDIES['fsdd']}"
            )
    return Found(recordings, "FSDD's names: {label}_{speaker}_{n}")


def commands(folder: Path) -> Found:
    """Speech Commands (Warden 2018): WORD/SPEAKER_nohash_N.wav; `testing_list.txt` and `validation_list.txt`."""
    listed = _listed(folder / "testing_list.txt")
    recordings = []
    for path in files(folder, (".wav",)):
        if path.parent.parent != folder:
            continue
        name = f"{path.parent.name}/{path.name}"
        part = "" if listed is None else "test" if name in listed else "train"
        recordings.append(Recording(path, path.parent.name, path.stem.split("_nohash_")[0], part))
    return Found(recordings, "Speech Commands: {label}/{speaker}_nohash_{n}")


def _listed(path: Path) -> set[str] | None:
    """The names that a list of recordings holds, None where there is no list."""
    if not path.is_file():
        return None
    try:
        return set(path.read_text("utf-8").split())
    except ValueError as error:
        raise InputError(
            f"{path} is no text ({error}); it lists the test recordings, one WORD/FILE.wav a line."
        ) from error


def yesno(folder: Path) -> Found:
    """YESNO (OpenSLR 1): eight words of Hebrew yes (1) and no (0) a file, cut at its seven longest pauses."""
    home = next((path for path in (folder / "waves_yesno", folder) if any(path.glob("*.wav"))), folder)
    recordings, left_out = [], []
    for path in sorted(home.glob("*.wav")):
        said = path.stem.split("_")
        if len(said) != 8 or set(said) - {"0", "1"}:
            raise InputError(f"{path} is not named by eight words 0 or 1, as 0_1_0_0_1_1_0_1.wav. Remove it.")
        try:
            cuts = pauses(path, 8)
        except UnusableError as error:
            left_out.append(str(error))
            continue
        if cuts is None:
            left_out.append(f"{path} has no seven pauses")
            continue
        names = ("no", "yes")
        recordings += [
            Recording(path, names[int(word)], "the one speaker", "", *span)
            for word, span in zip(said, cuts, strict=True)
        ]
    return Found(recordings, "YESNO: words between pauses", "one speaker: says nothing of others", left_out)


def timit(folder: Path) -> Found:
    """TIMIT: {TRAIN,TEST}/DIALECT/SPEAKER/SENTENCE.WAV, each with a .WRD file of `start stop word` lines."""
    recordings = []
    for path in files(folder, (".wav",)):
        words = next((p for p in (path.with_suffix(".WRD"), path.with_suffix(".wrd")) if p.is_file()), None)
        part = {"train": "train", "test": "test"}.get(path.parts[-4].lower(), "") if len(path.parts) > 3 else ""
        for line in words.read_text("utf-8", "replace").splitlines() if words else ():
            match = re.fullmatch(r"(\d+) (\d+) (\S+)", line.strip())
            if not match:
                raise InputError(f"{words} has the line {line!r:.60}; it must read: start stop word, in samples.")
            recordings.append(Recording(path, match[3], path.parent.name, part, int(match[1]), int(match[2])))
    return Found(recordings, "TIMIT: words of the .WRD files, speakers by folder")


def librispeech(folder: Path) -> Found:
    """LibriSpeech: SPEAKER/CHAPTER/SPEAKER-CHAPTER-N.flac. Sentences, not words: features can be learned of them."""
    pattern = re.compile(r"(\d+)-(\d+)-(\d+)")
    matches = ((path, pattern.fullmatch(path.stem)) for path in files(folder, (".flac", ".wav")))
    recordings = [Recording(path, "", match[1]) for path, match in matches if match]
    return Found(recordings, "LibriSpeech: {speaker}-{chapter}-{n}, no words")


def plain(folder: Path, pattern: str | None = None) -> Found:
    """Any folder: label and speaker by `pattern`, or by the first of GUESSES that fits all files; said in `how`."""
    paths = files(folder)
    if pattern is not None:
        return _by_pattern(folder, paths, pattern)
    listed = _listed(folder / "testing_list.txt")
    for guess in GUESSES:
        found = _matched(folder, paths, guess, strict=True)
        if found and _plausible(found):
            part = (lambda path: "") if listed is None else _listed_part(folder, listed)
            recordings = [Recording(path, label, speaker, part(path)) for path, label, speaker in found]
            return Found(recordings, f"guessed {guess}; if that is wrong, say --speaker PATTERN")
    if any(path.parent == folder for path in paths):
        raise InputError(
            f"{folder} holds {next(p for p in paths if p.parent == folder).name}, of which label and speaker can't be "
            'told. Say how files are named, as in --speaker "{label}_{speaker}_{n}", or sort them into label/*.wav.'
        )
    part = (lambda path: "") if listed is None else _listed_part(folder, listed)
    recordings = [Recording(path, path.relative_to(folder).parts[0], f"of {path}", part(path)) for path in paths]
    return Found(recordings, 'labels by folder, speakers unknown: say --speaker "{label}/{speaker}_{n}", say', UNKNOWN)


def _listed_part(folder: Path, listed: set[str]) -> Callable[[Path], str]:
    return lambda path: "test" if path.relative_to(folder).as_posix() in listed else "train"


def _by_pattern(folder: Path, paths: list[Path], pattern: str) -> Found:
    """The recordings as a stated pattern reads them; files that it doesn't match are named and left out."""
    if "{label}" not in pattern:
        raise InputError(f"speaker is {pattern!r}; it must hold {{label}}, and {{speaker}} where speakers are known.")
    found = _matched(folder, paths, pattern, strict=False) or []
    matched = {path for path, _, _ in found}
    if paths and not found:
        shown = paths[0].relative_to(folder).with_suffix("")
        raise InputError(f"speaker is {pattern!r}, which matches none of the {len(paths)} files, such as {shown}.")
    left_out = [f"{path} is not named {pattern}" for path in paths if path not in matched]
    known = "{speaker}" in pattern
    recordings = [Recording(path, label, speaker if known else f"of {path}") for path, label, speaker in found]
    return Found(recordings, f"--speaker {pattern}", "" if known else UNKNOWN, left_out)


def expression(pattern: str, strict: bool) -> re.Pattern[str]:
    """The regular expression of a pattern; `{n}` is a number where `strict`, and anything else otherwise."""
    pieces = re.split(r"(\{\w+\})", pattern)
    seen: set[str] = set()

    def piece(text: str) -> str:
        if not re.fullmatch(r"\{\w+\}", text):
            return re.escape(text)
        name = text[1:-1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>{'[0-9]+' if strict and name == 'n' else '[^/]+?'})"

    return re.compile("".join(map(piece, pieces)))


def _matched(folder: Path, paths: list[Path], pattern: str, strict: bool) -> list[tuple[Path, str, str]] | None:
    """(path, label, speaker) of the files that a pattern matches; None where `strict` and one isn't matched."""
    regular, depth = expression(pattern, strict), pattern.count("/") + 1
    found = []
    for path in paths:
        parts = path.relative_to(folder).with_suffix("").parts
        match = regular.fullmatch("/".join(parts[-depth:])) if len(parts) >= depth else None
        if match:
            groups = match.groupdict()
            found.append((path, groups["label"], groups.get("speaker", "")))
        elif strict:
            return None
    return found


def _plausible(found: list[tuple[Path, str, str]]) -> bool:
    """Whether labels and speakers look like ones: each speaker says several labels, each label has several speakers."""
    labels, speakers = defaultdict(set), defaultdict(set)
    for _, label, speaker in found:
        labels[speaker].add(label)
        speakers[label].add(speaker)
    shared = sum(len(said) > 1 for said in labels.values())
    return (
        len(labels) > 1
        and len(speakers) > 1
        and 2 * shared > len(labels)
        and all(len(s) > 1 for s in speakers.values())
    )


def digest(name: str) -> int:
    """A number that depends on a name alone, on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


LAYOUTS: dict[str, Callable[..., Found]] = {
    "fsdd": digits,
    "speech-commands": commands,
    "yesno": yesno,
    "timit": timit,
    "librispeech": librispeech,
    "folder": plain,
}
_OF_WORDS = "It should hold recordings of words, such as WORD/SPEAKER_1.wav (.flac, .ogg, .mp3)."
REMEDIES = {
    "fsdd": f"To get the Free Spoken Digit Dataset: {FSDD}.",
    "speech-commands": "It should hold Speech Commands as torchaudio unpacks it: WORD/SPEAKER_nohash_0.wav.",
    "yesno": "It should hold YESNO's waves_yesno/0_1_….wav.",
    "timit": "It should hold TIMIT's TRAIN and TEST, with a .WRD beside each .WAV.",
    "librispeech": "It should hold LibriSpeech's SPEAKER/CHAPTER/*.flac.",
    "folder": _OF_WORDS,
}

"""Train features of speech without labels, and read words from them.

gossamer train speech quick --seed 1
gossamer train speech fsdd --data-dir free-spoken-digit-dataset/recordings --method rigl --sparsity 0.8
gossamer train speech folder --data-dir my-words --save my-words.gossamer
"""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gossamer import InputError, Result, checkpoints
from gossamer.measure import Cost, measure
from gossamer.paths import refuse_unwritable
from gossamer.results import plain
from gossamer.threads import use_threads
from gossamer_speech import data, evaluate, evaluate_sentences, reading, recogniser, report
from gossamer_speech.benchmark import HIGHER_IS_BETTER, METRIC
from gossamer_speech.config import Config
from gossamer_speech.data import Words
from gossamer_speech.evaluate import Log
from gossamer_speech.patches import Shape
from gossamer_speech.recogniser import Recogniser, Transcriber


def run(config: Config, log: Log = lambda line: None) -> Result:
    """Learn and recognise fold by fold; costs are those of what is shipped, latency from a word's frames on."""
    if config.threads:
        use_threads(config.threads)
    if config.save:
        refuse_unwritable(config.save)
        if config.classifier == "knn":
            raise InputError("classifier is 'knn', which keeps every training word; --save a ridge or a logistic one.")
    words, task = _words(config, log), _task(config)
    folds, done = evaluate.splits(words, config.split), _resumed(config)
    heard = evaluate.Heard(words, config, Shape.of(config), folds)
    shipped = None
    with checkpoints.Checkpoint(config.checkpoint, lambda path: _keep(path, config, done)) as checkpoint:
        checkpoint.step()
        for number in range(len(done), len(folds)):
            fold = task.fold(config, heard, folds[number], log)
            shipped = fold.recogniser
            done.append(_finished(fold))
            log(f"fold {number + 1} of {len(folds)}: {fold.accuracy['clean']:.2f} % recognised")
            checkpoint.step()
    if config.save or shipped is None:
        shipped = _whole(config, heard, log)
    example = heard.clean()[:1] if isinstance(shipped, Recogniser) else shipped.example
    result = _result(config, words, done, measure(shipped, example), log)
    return replace(result, extra={**result.extra, **report.kept(shipped, heard.clean())})


def _task(config: Config) -> ModuleType:
    """What learns and tests: words, or sentences of them."""
    return evaluate_sentences if config.classifier == "ctc" else evaluate


def _words(config: Config, log: Log) -> Words:
    """The words to learn from; says how they are divided and which recordings are left out."""
    words = data.load(config.data, config.data_dir, config.speaker)
    if len(words.names) < 2:
        raise InputError(f"{config.data_dir} holds one kind of words only, {words.names}; a recogniser needs two.")
    log(f"{len(words)} words, {len(words.names)} different ones, {len(words.speaker_names)} speakers ({words.how})")
    for fault in words.left_out[:5]:
        log(f"left out: {fault}")
    if len(words.left_out) > 5:
        log(f"left out: {len(words.left_out) - 5} more")
    if words.caveat:
        log(words.caveat)
    return words


def _finished(fold: evaluate.Fold) -> dict[str, Any]:
    """What of a fold goes into the checkpoint and the result."""
    trained = fold.trained
    return {
        "accuracy": fold.accuracy,
        "speakers": fold.speakers,
        "extra": fold.extra,
        "seconds": trained.seconds,
        "sparsity": trained.masking.sparsity if trained.masking else 0.0,
    }


def _whole(config: Config, heard: evaluate.Heard, log: Log) -> Recogniser | Transcriber:
    """A recogniser learned from all words, written to the file of `--save` where one is given."""
    words = heard.words
    whole, _, examples, fit = _task(config).learn(config, heard, np.ones(len(words), bool), log)
    if config.save:
        if fit:
            whole.threshold = reading.threshold(examples, len(words.names), fit)
        recogniser.save(whole, config.save, config, {"digest": words.digest})
        log(f"kept in {config.save}, learned from all {len(words)} words")
    return whole


def _result(config: Config, words: Words, done: list[dict[str, Any]], cost: Cost, log: Log) -> Result:
    """The means over the folds, and the costs of what is shipped, as a result."""
    by_speaker = {name: value for part in done for name, value in part["speakers"].items()}
    mean = {name: float(np.mean([part["accuracy"][name] for part in done])) for name in done[0]["accuracy"]}
    extra = {name: float(np.mean([part["extra"][name] for part in done])) for name in done[0]["extra"]}
    low, high = reading.interval(list(by_speaker.values()))
    log(f"{mean['clean']:.2f} % recognised, in the mean over speakers {np.mean(list(by_speaker.values())):.2f}")
    return Result(
        domain="speech",
        method=config.method,
        data=config.data,
        pattern=parts(config),
        sparsity_asked=config.sparsity if done[0]["sparsity"] else 0.0,
        sparsity=float(np.mean([part["sparsity"] for part in done])),
        seed=config.seed,
        metric=METRIC,
        value=mean["clean"],
        higher_is_better=HIGHER_IS_BETTER,
        floor=0.0 if config.classifier == "ctc" else 100 / len(words.names),
        parameters=cost.parameters,
        nonzeros=cost.nonzeros,
        bytes=cost.bytes,
        latency_ms=cost.latency_ms,
        train_seconds=sum(part["seconds"] for part in done),
        config=plain(config),
        caveat=words.caveat,
        extra={
            **extra,
            "in_noise": {name: value for name, value in mean.items() if name != "clean"},
            "speakers": by_speaker if len(by_speaker) <= 20 else len(by_speaker),
            "interval": [low, high],
            "words": len(words),
            "left_out": len(words.left_out),
            "recordings": words.digest,
        },
    )


def parts(config: Config) -> str:
    """What is sparse, the weights, the codes or both; `sparsity` is that of the weights."""
    weights = config.method in ("rigl", "static-random", "temporal", "temporal-topk") or config.classifier == "ctc"
    sparse = (
        "topk",
        "stacked",
        "batchtopk",
        "matryoshka",
        "rigl",
        "static-random",
        "random-topk",
        "omp",
        "temporal-topk",
    )
    codes = f"codes TopK({config.active}) of {config.codes}" if config.method in sparse else ""
    return ", ".join(part for part in ("weights Unstructured()" * weights, codes) if part) or "dense"


def _keep(path: Path, config: Config, done: list[dict[str, Any]]) -> None:
    checkpoints.save(path, config=plain(config), done=done)


def _resumed(config: Config) -> list[dict[str, Any]]:
    """The folds that a checkpoint of the same run holds."""
    if not (config.checkpoint and config.checkpoint.is_file()):
        return []
    state = checkpoints.load(config.checkpoint)
    checkpoints.same_run(state["config"], config, config.checkpoint)
    return state["done"]


if __name__ == "__main__":
    from gossamer.cli import train_command

    train_command("speech")

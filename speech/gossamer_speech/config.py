"""One run of the speech domain, and the presets: which features, learned from which words, read how."""

from dataclasses import dataclass
from pathlib import Path

from gossamer.errors import InputError, at_least, learning_rate, one_of, positive, share, within

DATA = ("espeak", "fsdd", "speech-commands", "yesno", "timit", "librispeech", "folder")
MASKED = ("static-random", "rigl")
LEARNED = (
    "dense",
    "topk",
    "stacked",
    "batchtopk",
    "jumprelu",
    "gated",
    "matryoshka",
    "l1",
    "kl",
    *MASKED,
    "small-dense",
)
FIXED = ("random-relu", "random-topk", "k-means", "pca", "nmf", "omp", "log-mel", "mfcc", "mfcc-13")
METHODS = (*LEARNED, *FIXED, "temporal", "temporal-topk")
CLASSIFIERS = ("ridge", "logistic", "knn", "ctc")
NOISES = ("none", "white", "babble", "reverberation")


@dataclass(frozen=True)
class Config:
    """One run: features of words are learned without labels, and read by a classifier."""

    method: str = "topk"
    """dense (autoencoder with ReLU codes), topk, batchtopk, jumprelu, gated, matryoshka, l1, kl (sparse autoencoders),
    stacked (topk codes of three by three patches' topk codes),
    rigl and static-random (topk with sparse weights), small-dense (dense, as many parameters as these), random-relu,
    random-topk, k-means, pca, nmf, omp, log-mel, mfcc, mfcc-13 (with deltas), temporal (a network trained on labels),
    temporal-topk (the sum of what it and topk read)"""
    seed: int = 1
    """of the weights, the batches and the noise"""
    data: str = "espeak"
    """espeak (embedded), fsdd, speech-commands, yesno, timit, librispeech, or folder (any recordings)"""
    data_dir: Path | None = None
    """folder of the recordings, for all but espeak"""
    speaker: str | None = None
    """how a folder's files are named, as in "{label}/{speaker}_{n}"; guessed, and said, where it isn't given"""
    split: str = "speaker"
    """speaker (each fifth of the speakers is tested after learning from the others; each one of up to six) or official
    (the data set's own)"""
    noise: str = "none"
    """of all words: none, white, babble (other words, of speakers of the same part) or reverberation"""
    snr: float = 10.0
    """signal-to-noise ratio in dB, for white and babble"""
    levels: tuple[float, ...] = (10.0, 0.0)
    """signal-to-noise ratios in dB at which words are recognised in white noise and in babble, too"""
    augment: bool = False
    """learn to read each training word a second time in noise of other training words, too (temporal always hears
    half of them in noise)"""
    synthetic: int = 0
    """times that each of 51 voices of eSpeak NG says each word's name, to be learned from, too; for ctc, sentences of
    these words that each says"""
    sparsity: float = 0.8
    """share of weights that are zero, in [0, 1), for rigl, static-random, temporal (also that of
    temporal-topk) and ctc's reader"""
    codes: int = 128
    """codes of a patch, a window of frames by some of the bands"""
    active: int = 16
    """codes of a patch that are not zero, at most or in the mean"""
    quantise: int = 0
    """levels that each code is rounded to, zero among them, for a compact code (2: active or not); 0: as it is"""
    width: int = 9
    """frames (10 ms each) in a patch, odd"""
    bands: int = 16
    """of the 40 mel bands, how many a patch has; patches lie every four bands"""
    segments: int = 8
    """parts of a word that are pooled apart"""
    warps: int = 5
    """vocal tract lengths that codes are averaged over, from 12% shorter to 12% longer; 1: none"""
    classifier: str = "ridge"
    """ridge, logistic or knn (cosine, five neighbours) of words; ctc: sentences of these words, letter by letter"""
    trims: tuple[float, ...] = ()
    """decibels below its loudest 10 ms at which a word's ends are cut off once more, each for another view that is
    averaged over, for recordings differ in how closely they were cut; ctc hears each word at one of them"""
    normalise: str = "utterance"
    """of a word's frames: utterance (less each band's mean, over the deviation of all) or level (less one mean of all
    bands, so that a word keeps its own spectrum)"""
    epochs: int = 3
    """passes over the patches; for temporal and ctc, over the words, tenfold"""
    batch: int = 512
    """patches in a gradient"""
    learning_rate: float = 1e-3
    """Adam's"""
    accelerator: str = "cpu"
    """what Lightning Fabric calls it: cpu, cuda, auto"""
    save: Path | None = None
    """file to keep the recogniser in, learned from all speakers"""
    checkpoint: Path | None = None
    """file that keeps what is finished, so that the same command goes on"""
    threads: int | None = 1
    """cores that work"""

    @property
    def places(self) -> tuple[str, ...]:
        """The fields that are no part of what is run; one's own recordings are known by their folder's name."""
        return (*(() if self.data == "folder" else ("data_dir",)), "save", "checkpoint", "threads")

    def __post_init__(self) -> None:
        one_of(METHODS, method=self.method)
        one_of(DATA, data=self.data)
        one_of(("speaker", "official"), split=self.split)
        one_of(NOISES, noise=self.noise)
        one_of(CLASSIFIERS, classifier=self.classifier)
        one_of(("utterance", "level"), normalise=self.normalise)
        share(sparsity=self.sparsity)
        within(-20, 60, snr=self.snr, **{f"levels[{i}]": level for i, level in enumerate(self.levels)})
        at_least(1, codes=self.codes, active=self.active, segments=self.segments, epochs=self.epochs, batch=self.batch)
        at_least(1, threads=self.threads)
        within(0, 2**32 - 1, seed=self.seed)
        at_least(0, synthetic=self.synthetic)
        if self.synthetic and self.data == "espeak":
            raise InputError(
                f"synthetic is {self.synthetic}, but the data set 'espeak' has the same voices; leave it out."
            )
        if self.method.startswith("temporal") and self.classifier == "ctc":
            raise InputError(
                f"method is {self.method!r}, which reads words itself and has no codes; --classifier ctc wants some."
            )
        within(1, 40 if self.method != "stacked" else 32, bands=self.bands)  # of 40, and eight around them
        within(1, 40, **{f"trims[{i}]": trim for i, trim in enumerate(self.trims)})
        within(0, 256, quantise=self.quantise)
        if self.quantise == 1 or (self.quantise and self.method.startswith("temporal")):
            raise InputError(f"quantise is {self.quantise}; give 2 levels or more, and a method that has codes.")
        within(1, 9, warps=self.warps)
        positive(width=self.width)
        learning_rate(learning_rate=self.learning_rate)
        if self.width % 2 == 0:
            raise InputError(f"width is {self.width}; it must be odd, so that a patch has a middle.")
        if self.data == "espeak" and self.data_dir is not None:
            raise InputError(
                f"data_dir is {self.data_dir}, but the data set 'espeak' comes with the package and reads no folder; "
                "leave out --data-dir, or choose the preset 'fsdd' or 'folder', to which it belongs."
            )


PRESETS = {
    "quick": Config(split="official", noise="white", warps=1, codes=64, epochs=2),
    "fsdd": Config(data="fsdd", synthetic=1, warps=3, normalise="level", levels=(20.0, 15.0, 10.0, 5.0, 0.0)),
    "folder": Config(data="folder", normalise="level"),
    "speech-commands": Config(data="speech-commands", split="official", normalise="level"),
}

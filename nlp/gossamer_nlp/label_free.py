"""A model learned from nothing but the documents: their titles and first sentences are to find them."""

from collections.abc import Callable, Sequence
from typing import Any

from gossamer.threads import using_threads
from gossamer_nlp.config import Config
from gossamer_nlp.data import SPLITS, Collection, with_pseudo_queries
from gossamer_nlp.features import features
from gossamer_nlp.model import Lexical
from gossamer_nlp.train import train
from gossamer_nlp.trained import lexical


@using_threads(1)
def learned(documents: Sequence[tuple[str, Any]], start: Lexical, log: Callable[[str], None]) -> Lexical:
    """Term weights for documents (id and fields), of the fields and language of another model; an index expands by it.

    The number of epochs is chosen on a tenth of the titles or first sentences, which are not learned from; raises
    `InputError` where there are too few.
    """
    ids = tuple(name for name, _ in documents)
    texts = tuple(start.texts(fields) for _, fields in documents)
    collection = with_pseudo_queries(Collection("files", start.fields, ids, texts, dict.fromkeys(SPLITS, ()), "", {}))
    config = Config(method="expanded", data="files", language=start.analyzer.language)
    found = features(collection, config.language)
    encoder, _ = train(config, found, log)
    return lexical(encoder, found, config)

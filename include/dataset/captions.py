"""Captions: cleaned, judged, and more of them where that is asked for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from include.dataset.config import DatasetConfig
from include.dataset.stages.rejection import RejectedError

CAPTION = "caption"
MAX_CAPTIONS = 64  #: of one sample
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\ufeff\ufffe\uffff]+")
_TAGS = re.compile(r"</?[A-Za-z][^<>]{0,200}>")
_ADDRESS = re.compile(r"^(https?://|www\.)\S+$", re.IGNORECASE)
_FILE_NAME = re.compile(r"^\S+\.(jpe?g|png|gif|webp|bmp|tiff?|svg)$|^(IMG|DSC|DSCN|PXL|Screenshot)[-_ ]?\d[\w-]*$", re.IGNORECASE)
_ONE_SIGN = re.compile(r"^(.)\1{4,}$")
_PLACEHOLDERS = frozenset({"image", "photo", "picture", "untitled", "none", "null", "nan", "n/a", "undefined", "caption"})

#: Words that are frequent in one of these languages and rare in the others.
_FUNCTION_WORDS = {
    "de": "der die das und ist nicht ein eine einem einer mit auf von den dem für im zum auch wird sich",
    "en": "the and is of with an on at by from this that it are his her their into near over",
    "es": "el los las una con por para está del al sobre y su sus este esta junto muy",
    "fr": "le les une avec dans pour est et du des sur au aux ce cette son sa ses près",
    "it": "il gli una con per di della del che è nel nella sul sulla e un alla uno degli",
    "nl": "de het een en van met op is in zijn niet voor aan bij naar door uit dat deze",
    "pt": "o os as uma com por para está do da dos das no na em e um seu sua ao",
}
_LANGUAGES = {language: frozenset(words.split()) for language, words in _FUNCTION_WORDS.items()}


def clean_captions(captions: Sequence[str], config: DatasetConfig) -> list[str]:
    """The usable captions, normalised (NFC, one space, no tags or control characters), without repeats, then the extra ones.

    Raises :class:`RejectedError` with what is wrong with the main caption where none is usable.
    """
    cleaned = list(dict.fromkeys(text for caption in captions if (text := normalise(caption))))
    if not cleaned:
        raise RejectedError(CAPTION, "has no caption")
    faults = {text: fault_of(text, config) for text in cleaned}
    usable = [text for text in cleaned if not faults[text]][:MAX_CAPTIONS]
    if not usable:
        raise RejectedError(CAPTION, faults[cleaned[0]])
    extra = [template.replace("{caption}", usable[0]) for template in config.caption_templates]
    return list(dict.fromkeys([*usable, *extra]))


def normalise(caption: str) -> str:
    # Of printable ASCII, which most captions are, there is nothing to replace or compose.
    plain = caption.isascii() and caption.isprintable()
    text = caption if plain else unicodedata.normalize("NFC", _CONTROL.sub(" ", caption))
    return " ".join((_TAGS.sub(" ", text) if "<" in text else text).split())


def fault_of(caption: str, config: DatasetConfig) -> str:
    """What is wrong with a normalised caption; empty where nothing is."""
    if len(caption) > config.max_caption:
        return f"the caption has {len(caption)} characters; max_caption is {config.max_caption}"
    if len(caption) < config.min_caption:
        return f"the caption has {len(caption)} characters; min_caption is {config.min_caption}"
    if _ADDRESS.match(caption) or _FILE_NAME.match(caption):
        return "the caption is an address or a file name"
    if _ONE_SIGN.match(caption) or caption.lower() in _PLACEHOLDERS:
        return "the caption says nothing"
    language = language_of(caption) if config.caption_language else ""
    if language and language != config.caption_language:
        return f"the caption is in {language}; caption_language is {config.caption_language}"
    return ""


def language_of(caption: str) -> str:
    """The language most of whose frequent words are here; empty where there are too few to tell, as in "red heart".

    After Grefenstette (1995), "Comparing two language identification schemes", by short words.
    """
    words = re.findall(r"[^\W\d_]+", caption.lower())
    hits = sorted(((sum(word in frequent for word in words), language) for language, frequent in _LANGUAGES.items()), reverse=True)
    (most, language), (second, _) = hits[:2]
    return language if most >= 2 and most > second else ""

"""How likely a text is to insult, threaten or degrade somebody: the packaged classifier, or one that is named.

Knows words, their weights, and transformers' sequence classifiers; knows nothing of probes, rewards or users.

The packaged one is the linear model of alt-profanity-check (MIT; trained on comments of Wikipedia and Twitter,
https://victorzhou.com/blog/better-profanity-detection-with-scikit-learn/), as numbers, not as a pickle. Its words are
kept as digests, so that no list of slurs lies here; benchmarks/packaged_toxicity.py makes the file. It weighs single
words: it finds swearing, slurs and plain insults, but no threat and no contempt in polite words. docs/design.md has its
measured precision and recall.

Shapes: N texts, V words, K models that are averaged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from torch import Tensor

from adapters.checkpoint import ModelError, resolve
from adapters.model import UNREADABLE

WORD = re.compile(r"\b\w\w+\b")  # as scikit-learn's vectorizers split
SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
LONGEST = 512  # tokens that a named classifier reads of a text
TOGETHER = 16  # texts that it reads in one pass
# What the label of harmless texts is called, letters alone.
HARMLESS = frozenset(
    {
        "neutral", "clean", "safe", "ok", "normal", "none", "nontoxic", "nottoxic", "nohate", "nothate", "nonhate",
        "nonoffensive", "notoffensive",
    }
)  # fmt: skip


class ClassifierError(ModelError):
    """The named toxicity classifier cannot be used; the message says why and what would work."""


class Classifier(Protocol):
    """What a toxicity classifier can be asked. `name`: as the settings name it."""

    name: str

    def probabilities(self, texts: Sequence[str]) -> Tensor:
        """(N,) float32 on the CPU: how likely each text is toxic; nearly nothing for an empty one."""
        ...


def load(name: str | None, folder: Path, report: Callable[[str], None]) -> Classifier:
    """The classifier at a hub name or in a folder, kept under `folder`; the packaged one for None.

    Raises ClassifierError.
    """
    if name is None:
        return packaged()
    try:
        path = resolve(name, folder, report).path
    except ModelError as error:
        raise ClassifierError(f"the toxicity classifier: {error}") from error
    return Sequenced(name, path)


@lru_cache(maxsize=1)
def packaged() -> Classifier:
    """The one that comes with the package."""
    return Worded(safetensors.torch.load((resources.files("feedback") / "toxicity.safetensors").read_bytes()))


class Worded:
    """The mean of K calibrated linear models on a sentence's words, weighed by tf-idf (Salton & Buckley 1988)."""

    name = "packaged"

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        """`words` (V,), each a `digest`; `idf` (V,); `weights` (V, K) and `bias` (K,), calibrated (Platt 1999)."""
        self._place = {word: place for place, word in enumerate(tensors["words"].tolist())}
        self._idf, self._weights, self._bias = tensors["idf"], tensors["weights"], tensors["bias"]

    def probabilities(self, texts: Sequence[str]) -> Tensor:
        """Of each text's worst sentence: an insult is not made good by what stands around it."""
        parts = [[part for part in SENTENCE.split(text) if part.strip()] for text in texts]
        of = {part: self._sentence(part) for part in dict.fromkeys(part for each in parts for part in each)}
        return torch.tensor([max((of[part] for part in each), default=0.0) for each in parts])

    def _sentence(self, text: str) -> float:
        counts = Counter(self._place.get(digest(word), -1) for word in WORD.findall(text.lower()))
        counts.pop(-1, None)
        places = torch.tensor(list(counts), dtype=torch.long)
        weighed = torch.tensor(list(counts.values()), dtype=torch.float32) * self._idf[places]
        score = weighed @ self._weights[places] / weighed.norm().clamp_min(1e-9)  # (K,)
        return float(torch.sigmoid(score + self._bias).mean())


@lru_cache(maxsize=65_536)
def digest(word: str) -> int:
    """64 bits that stand for a word."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little", signed=True)


class Sequenced:
    """A classifier of whole texts that transformers loads, on the processor."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self._network, self._tokenizer = _read(name, path)
        self._longest = min(LONGEST, self._tokenizer.model_max_length)
        config = self._network.config
        labels = [str(config.id2label[number]) for number in range(config.num_labels)]
        # Several labels may hold at once, or the only one is a yes or no: any of them is harm.
        self._each = len(labels) == 1 or config.problem_type == "multi_label_classification"
        self._harm = [number for number, label in enumerate(labels) if _letters(label) not in HARMLESS]
        if not self._harm or (not self._each and len(self._harm) == len(labels)):
            raise ClassifierError(
                f"the toxicity classifier {name} has the labels {', '.join(labels)}: one of them must name harmless"
                f" texts ({', '.join(sorted(HARMLESS))}), and another one harmful ones"
            )

    @torch.inference_mode()
    def probabilities(self, texts: Sequence[str]) -> Tensor:
        found = torch.zeros(len(texts))
        said = [row for row, text in enumerate(texts) if text.strip()]
        for at in range(0, len(said), TOGETHER):
            rows = said[at : at + TOGETHER]
            found[rows] = self._some([texts[row] for row in rows])
        return found

    def _some(self, texts: list[str]) -> Tensor:
        read = self._tokenizer(
            texts, return_tensors="pt", padding=True, truncation=True, max_length=self._longest
        )
        logits = self._network(**read).logits.float()  # (N, labels)
        if self._each:
            return torch.sigmoid(logits)[:, self._harm].amax(1)
        return torch.softmax(logits, dim=1)[:, self._harm].sum(1)


def _read(name: str, path: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        network, info = AutoModelForSequenceClassification.from_pretrained(
            path, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except UNREADABLE as error:
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ClassifierError(f"cannot load the toxicity classifier {name}: {why}") from error
    if info["missing_keys"]:  # a language model, say: its head would be drawn at random
        raise ClassifierError(
            f"{name} is no sequence classifier: it has no weights for {min(info['missing_keys'])}"
        )
    return network.eval().requires_grad_(False), tokenizer


def _letters(label: str) -> str:
    return "".join(filter(str.isalpha, label.lower()))

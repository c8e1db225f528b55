"""Makes feedback/toxicity.safetensors, the packaged toxicity classifier, from the two pickles of alt-profanity-check.

Knows how scikit-learn keeps a tf-idf vectorizer and an ensemble of calibrated linear classifiers. To load a pickle is
to run it, so it is done here alone, once, after a look at their digests, and never by the service:

    .venv/bin/python -m pip install --target build/toxicity alt-profanity-check==1.9.1
    PYTHONPATH=build/toxicity .venv/bin/python -m benchmarks.packaged_toxicity

It ends with an error if the numbers written down do not give the probabilities that the original gives.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.workload import ROOT
from feedback.toxicity import WORD, Worded, digest

TARGET = ROOT / "feedback" / "toxicity.safetensors"
PICKLES = {
    "model.joblib": "aeafc04849d4d93db4721cf30a86ebf22085595294b8a07d51918e7fa98f538b",
    "vectorizer.joblib": "19c5200dc6a41f026e0558e2f164f5fe8d8f58e502b46b37e4385037fcfa4831",
}
TRIALS = [
    "You are a stupid idiot and nobody likes you.",
    "Thank you, that was a lovely evening.",
    "what the hell is wrong with these people",
    "The capital of France is Paris",
]


def main() -> None:
    check_pickles()
    from profanity_check import profanity_check as original

    made = tensors(original.vectorizer, original.model)
    ours = Worded(made).probabilities(TRIALS)
    theirs = torch.tensor(original.predict_prob(TRIALS), dtype=torch.float32)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    save_file(made, TARGET)
    print(f"{TARGET.name}: {len(made['words'])} words, {TARGET.stat().st_size:,} bytes")
    for text, probability in zip(TRIALS, ours.tolist(), strict=True):
        print(f"{probability:.4f}  {text}")


def check_pickles() -> None:
    """Before anything of that package is imported: are they the files that were looked at?"""
    found = importlib.util.find_spec("profanity_check")
    assert found is not None and found.origin is not None, "alt-profanity-check is not installed"
    for name, sha256 in PICKLES.items():
        file = Path(found.origin).parent / "data" / name
        assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256, f"{file} is another file"


def tensors(vectorizer: Any, model: Any) -> dict[str, torch.Tensor]:
    """As `Worded` takes them: the calibration σ(−a·f − b) of each model goes into its weights and bias."""
    assert vectorizer.token_pattern == "(?u)" + WORD.pattern
    assert vectorizer.lowercase and vectorizer.ngram_range == (1, 1) and vectorizer.norm == "l2"
    assert vectorizer.use_idf and not vectorizer.sublinear_tf and vectorizer.strip_accents is None
    ordered = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.get)
    weights, bias = [], []
    for fold in model.calibrated_classifiers_:
        (curve,) = fold.calibrators
        linear = fold.estimator
        weights.append(-curve.a_ * torch.from_numpy(linear.coef_[0]))
        bias.append(float(-curve.a_ * linear.intercept_[0] - curve.b_))
    words = torch.tensor([digest(word) for word in ordered])
    assert len(words.unique()) == len(words), "two words have one digest"
    return {
        "words": words,
        "idf": torch.from_numpy(vectorizer.idf_).float(),
        "weights": torch.stack(weights, dim=1).float().contiguous(),
        "bias": torch.tensor(bias),
    }


if __name__ == "__main__":
    main()

"""How well images show what was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from include.evaluation.networks import AgreementModel


def prompt_agreement(model: AgreementModel, rendered: np.ndarray, true: np.ndarray, captions: Sequence[str]) -> dict[str, float]:
    """Mean cosine of image and prompt with its standard error, between the two values that it is read by:
    the true images of the captions, and rendered ones with the caption of the next.

    As CLIPScore (Hessel et al. 2021) without its scale. Images ``(N, H, W, 3)`` uint8, at least two, whose captions differ.
    """
    words = list(captions)
    own = model.similarity(rendered, words)
    return {
        "prompt_agreement": float(own.mean()),
        "prompt_agreement_error": float(own.std(ddof=1) / len(own) ** 0.5),
        "prompt_agreement_true": float(model.similarity(true, words).mean()),
        "prompt_agreement_shuffled": float(model.similarity(rendered, words[1:] + words[:1]).mean()),
    }

"""What a sweep's figures mean: how much quality each variant costs, and whether it is offered."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from include.evaluation.distances import kernel_distance, kernel_distance_error
from models.compression.kinds import KINDS, ORIGINAL
from models.compression.plan import Figures, Row, State

if TYPE_CHECKING:
    from include.evaluation.networks import FeatureNet  # brings torch, which a verdict needs only where it loads a network

Percent = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
BUSY_PCT = 30.0  #: of the CPU taken by other processes: times that were measured beside so much are marked
GAIN_PCT = 2.0  #: less than that is no gain: two measurements of one variant differ by as much
ROUNDS = 40


class CompressionPolicy(BaseModel):
    """What a variant may cost, in percent of the original's measurement."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quality_worse_pct: Percent = Field(10.0, description="Growth allowed to the kernel distance from real images.")
    images_differ_pct: Percent = Field(2.0, description="Mean pixel difference allowed, of the range, where weights are the original's.")
    slower_pct: Percent = Field(5.0, description="Growth allowed to the median seconds of an image.")


class Quality(BaseModel):
    """A variant's images against real ones, and against the original's from the same prompts and seeds."""

    model_config = ConfigDict(frozen=True)

    kernel_distance: float
    kernel_distance_error: float = Field(description="Its standard error.")
    worse_pct: float = Field(
        description="Growth of the kernel distance, of the original's or, if that is less, of what as few images have by chance."
    )
    noise_pct: float = Field(description="Two standard errors of that; a growth below it can't be told from none.")
    differ_pct: float = Field(description="Mean absolute difference of pixel values, of their range.")


class Status(StrEnum):
    ORIGINAL = "original"
    OFFERED = "offered"
    WORSE = "worse than allowed"
    SLOWER = "slower"
    NO_GAIN = "no gain"
    NOT_AVAILABLE = "not available"
    FAILED = "failed"


class Judged(BaseModel):
    """One line of the table."""

    model_config = ConfigDict(frozen=True)

    variant: str
    what: str
    status: Status
    verdict: str = Field(description="The status with its reason.")
    figures: Figures | None
    quality: Quality | None
    known: bool = Field(description="Measured by an earlier sweep.")


class NothingToCompareError(RuntimeError):
    """The original could not be measured."""


def judge_sweep(rows: Sequence[Row], references: np.ndarray, policy: CompressionPolicy, network: FeatureNet) -> list[Judged]:
    """One verdict a row, in their order.

    :param references: real images of the measured prompts, ``(N, H, W, 3)`` uint8
    :param network: what images are compared by; distances by another one can't be compared
    :raises NothingToCompareError: the original has no figures
    """
    original = next((row for row in rows if row.variant == ORIGINAL), None)
    if original is None or original.figures is None or original.images is None:
        raise NothingToCompareError(f"{ORIGINAL} was not measured: {original.why if original else 'it is not among the rows'}")
    images = _load(original.images)
    first, real = network.features(images), network.features(references)
    return [_judge(row, original.figures, _quality(row, images, first, real, network), policy) for row in rows]


def _load(path: Path) -> np.ndarray:
    return np.asarray(np.load(path, allow_pickle=False))


def _quality(row: Row, original: np.ndarray, first: np.ndarray, real: np.ndarray, network: FeatureNet) -> Quality | None:
    """:param original: images of the original, whose features are ``first``"""
    if row.images is None:
        return None
    images = _load(row.images)
    own = network.features(images)
    distance, base = (kernel_distance(one, real, paired=True) for one in (own, first))
    # Of a distance that two sets of so few images have by chance, any growth would be hundreds of percent.
    percent = 100 / max(base, 2 * kernel_distance_error(first, real), 1e-12)
    return Quality(
        kernel_distance=distance,
        kernel_distance_error=kernel_distance_error(own, real, paired=True),
        worse_pct=percent * (distance - base),
        noise_pct=percent * 2 * growth_error(own, first, real),
        differ_pct=100 * float(np.abs(images.astype(float) - original.astype(float)).mean()) / 255,
    )


def growth_error(variant: np.ndarray, original: np.ndarray, real: np.ndarray, seed: int = 0) -> float:
    """Standard error of the growth of the kernel distance: its deviation over random halves of the prompts, scaled to all of them.

    The three sets are halved alike, for a hard prompt is hard for both models and cancels out. Rows ``(N, d)``, at least four.
    """
    draw = np.random.default_rng(seed)
    halves = [draw.permutation(len(real))[: len(real) // 2] for _ in range(ROUNDS)]
    growth = [
        kernel_distance(variant[half], real[half], paired=True) - kernel_distance(original[half], real[half], paired=True)
        for half in halves
    ]
    return float(np.std(growth) / 2**0.5)


def _judge(row: Row, original: Figures, quality: Quality | None, policy: CompressionPolicy) -> Judged:
    status, verdict = _verdict(row, original, quality, policy)
    what = KINDS[row.variant].what
    if row.figures is not None and max(row.figures.busy_pct, original.busy_pct) > BUSY_PCT and status is not Status.WORSE:
        verdict += "; timed on a busy machine"
    return Judged(variant=row.variant, what=what, status=status, verdict=verdict, figures=row.figures, quality=quality, known=row.known)


def _verdict(row: Row, original: Figures, quality: Quality | None, policy: CompressionPolicy) -> tuple[Status, str]:
    if row.figures is None or quality is None:
        status = Status.NOT_AVAILABLE if row.state is State.NOT_AVAILABLE else Status.FAILED
        return status, f"{status}: {row.why}"
    if row.variant == ORIGINAL:
        return Status.ORIGINAL, "what the others are compared with"
    loss = _loss(KINDS[row.variant].same_images, quality, policy)
    if loss:
        return Status.WORSE, f"{Status.WORSE} ({loss})"
    slower = 100 * (row.figures.p50_s / original.p50_s - 1)
    smaller = 100 * (1 - row.figures.network_mb / original.network_mb)
    if slower > policy.slower_pct:
        words = "smaller but slower" if smaller > GAIN_PCT else Status.SLOWER
        return Status.SLOWER, f"{words} (+{slower:.0f} % > {policy.slower_pct:g} %)"
    if -slower <= GAIN_PCT and smaller <= GAIN_PCT:
        return Status.NO_GAIN, "neither faster nor smaller"
    return Status.OFFERED, f"{Status.OFFERED}: {_gains(slower, smaller)}"


def _loss(same_images: bool, quality: Quality, policy: CompressionPolicy) -> str:
    """What is worse than the policy allows; empty where nothing is."""
    if quality.worse_pct > max(policy.quality_worse_pct, quality.noise_pct):
        return f"kernel distance +{quality.worse_pct:.0f} % > {policy.quality_worse_pct:g} %"
    if same_images and quality.differ_pct > policy.images_differ_pct:
        return f"its images differ by {quality.differ_pct:.1f} % > {policy.images_differ_pct:g} %"
    return ""


def _gains(slower: float, smaller: float) -> str:
    faster = f"{-slower:.0f} % less time" if -slower > GAIN_PCT else "as fast" if slower <= GAIN_PCT else f"{slower:.0f} % more time"
    return f"{faster}, network {smaller:.0f} % smaller" if smaller > GAIN_PCT else faster


def offered(found: Sequence[Judged]) -> list[Judged]:
    """Those offered, the fastest first."""
    return sorted((each for each in found if each.status is Status.OFFERED and each.figures), key=_p50)


def pareto_front(found: Sequence[Judged]) -> list[Judged]:
    """Measured variants than which no other is both faster and closer to the original's quality; the fastest first."""
    front: list[Judged] = []
    for each in sorted((one for one in found if one.figures and one.quality), key=_p50):
        if not front or _worse(each) < _worse(front[-1]):
            front.append(each)
    return front


def _p50(judged: Judged) -> float:
    return judged.figures.p50_s if judged.figures else float("inf")


def _worse(judged: Judged) -> float:
    return judged.quality.worse_pct if judged.quality else float("inf")

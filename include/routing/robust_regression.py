"""A regression with positive coefficients, learned online, in which no single observation counts for much.

The model is ``value = Σ coefficient_i · term_i`` with relative noise, over five terms. It is fitted in the logarithm: of the value, so that
errors are relative, and of the coefficients, so that they stay positive whatever is observed.

* Recursive least squares on the model linearised at the present estimate, that is an extended Kalman filter whose measurement matrix
  holds each term's share of the prediction (Ljung and Söderström, *Theory and Practice of Recursive Identification*, 1983; Haykin,
  *Adaptive Filter Theory*, on recursive least squares as a Kalman filter).
* Residuals are clipped by Huber's influence function (Huber 1964) at a multiple of their predicted scale, and one that was clipped makes
  nothing more certain (Masreliez and Martin 1977).
* Instead of dividing the covariance by a forgetting factor, which winds up in directions that are not observed, a fixed fraction of it
  is replaced by the prior's at each observation, so that it never exceeds the prior's.
* The half width of the band follows the quantile itself by stochastic approximation (Robbins and Monro 1951), whatever the noise's shape.

Five terms are written out rather than looped over: this runs for each completion.
"""

from __future__ import annotations

from math import exp, log, sqrt

Terms = tuple[float, float, float, float, float]
#: Upper triangle of a symmetric 5×5 matrix, row by row.
Triangle = tuple[float, float, float, float, float, float, float, float, float, float, float, float, float, float, float]

COVERAGE = 0.8  #: share of observations that the band is made to hold
BAND_Z = 1.2816  #: half width of that band for normal noise, in standard deviations

MAX_STEP = log(2.0)  #: one observation scales a coefficient, and so any prediction, by a factor of 2 at most
HUBER = 1.5  #: residuals count up to this multiple of their predicted scale
FORGETTING = 3e-5  #: fraction of the covariance that each observation replaces by the prior's
CHANGE_RUN = 24  #: so many values in a row outside half the band and on one side of it are a change of the world, not outliers

#: Prior variances of the logarithms: of a level that all coefficients share, and of what each has of its own.
LEVEL_VARIANCE = 0.25
OWN_VARIANCES: Terms = (0.1, 4.0, 4.0, 4.0, 4.0)


def _with_level(own: Terms, scale: float = 1.0) -> Triangle:
    shared, (a, b, c, d, e) = scale * LEVEL_VARIANCE, (scale * (LEVEL_VARIANCE + variance) for variance in own)
    return a, shared, shared, shared, shared, b, shared, shared, shared, c, shared, shared, d, shared, e


PRIOR_COVARIANCE = _with_level(OWN_VARIANCES)
FORGOTTEN, KEPT = _with_level(OWN_VARIANCES, FORGETTING), 1 - FORGETTING
MAX_COVARIANCE = 100.0  #: what a covariance that was learned is far below

PRIOR_HALF_WIDTH = log(3.0)  #: of the band around the logarithm before the first observation
#: The part of it that is noise is as large as the part that is the prior's own uncertainty: so the prior counts like one observation.
PRIOR_NOISE_HALF_WIDTH = PRIOR_HALF_WIDTH / sqrt(2)
MIN_HALF_WIDTH, MAX_HALF_WIDTH = 0.01, log(100.0)
#: Gain of the noise's half width: the span over the samples, but in these bounds.
WIDTH_GAIN_SPAN, MIN_WIDTH_GAIN, MAX_WIDTH_GAIN = 5.0, 0.05, 0.5

MIN_VALUE, MAX_VALUE = 1e-6, 1e6  #: values beyond are taken for these
MIN_COEFFICIENT, MAX_COEFFICIENT = 1e-15, 1e12


def within_bounds(coefficients: Terms) -> Terms:
    a, b, c, d, e = (min(max(value, MIN_COEFFICIENT), MAX_COEFFICIENT) for value in coefficients)
    return a, b, c, d, e


class RobustRegression:
    """Estimate of one quantity. The first term is the one that the prior is surest of.

    :param coefficients: the prior's, positive
    :raises ValueError: for state that no regression can have reached
    """

    __slots__ = ("coefficients", "covariance", "half_width", "run", "samples")

    def __init__(
        self,
        coefficients: Terms,
        *,
        covariance: Triangle = PRIOR_COVARIANCE,
        half_width: float = PRIOR_NOISE_HALF_WIDTH,
        samples: int = 0,
        run: int = 0,
    ) -> None:
        self.coefficients = coefficients
        self.covariance = covariance  #: of the coefficients' logarithms
        self.half_width = half_width  #: of the band around the logarithm, as far as it is noise
        self.samples = samples
        self.run = run  #: values in a row above half the band; negative if below
        self._check()

    def _check(self) -> None:
        if len(self.coefficients) != 5 or not all(MIN_COEFFICIENT <= value <= MAX_COEFFICIENT for value in self.coefficients):
            raise ValueError(f"coefficients: give 5 between {MIN_COEFFICIENT} and {MAX_COEFFICIENT}")
        if len(self.covariance) != 15 or not all(-MAX_COVARIANCE <= value <= MAX_COVARIANCE for value in self.covariance):
            raise ValueError(f"covariance: give 15 numbers of at most {MAX_COVARIANCE}")
        if min(self.covariance[index] for index in (0, 5, 9, 12, 14)) <= 0:
            raise ValueError("covariance: give positive variances")
        if not MIN_HALF_WIDTH <= self.half_width <= MAX_HALF_WIDTH:
            raise ValueError(f"half_width: give one between {MIN_HALF_WIDTH} and {MAX_HALF_WIDTH}")
        if not isinstance(self.samples, int) or self.samples < 0 or not isinstance(self.run, int):
            raise ValueError("samples, run: give whole numbers, samples not negative")

    def predict(self, terms: Terms) -> tuple[float, float]:
        """The value, and the factor by which the band reaches above and below it."""
        value, variance, _ = self._linearise(terms)
        half_width = sqrt(self.half_width * self.half_width + BAND_Z * BAND_Z * variance)
        return min(max(value, MIN_VALUE), MAX_VALUE), exp(half_width)

    def observe(self, terms: Terms, value: float) -> float:
        """Learn from one positive value. Returns the logarithm of it over what was predicted."""
        predicted, variance, covariances = self._linearise(terms)
        error = log(min(max(value, MIN_VALUE), MAX_VALUE)) - log(predicted)
        noise = min(self.half_width, PRIOR_NOISE_HALF_WIDTH) / BAND_Z
        total = variance + noise * noise
        limit = HUBER * sqrt(total)
        counted = min(max(error, -limit), limit)
        clipped = counted != error
        self._move(covariances, counted / total)
        self._relax(covariances, 0.0 if clipped else 1 / total)
        self._watch_for_change(error)
        self._follow_width(abs(error), sqrt(self.half_width * self.half_width + BAND_Z * BAND_Z * variance))
        self.samples += 1
        return error

    def _linearise(self, terms: Terms) -> tuple[float, float, Terms]:
        """The value; the variance of its logarithm; that logarithm's covariances with the coefficients' logarithms."""
        t0, t1, t2, t3, t4 = terms
        c0, c1, c2, c3, c4 = self.coefficients
        p00, p01, p02, p03, p04, p11, p12, p13, p14, p22, p23, p24, p33, p34, p44 = self.covariance
        v0, v1, v2, v3, v4 = c0 * t0, c1 * t1, c2 * t2, c3 * t3, c4 * t4
        value = v0 + v1 + v2 + v3 + v4
        share = 1.0 / value
        g0, g1, g2, g3, g4 = v0 * share, v1 * share, v2 * share, v3 * share, v4 * share
        k0 = p00 * g0 + p01 * g1 + p02 * g2 + p03 * g3 + p04 * g4
        k1 = p01 * g0 + p11 * g1 + p12 * g2 + p13 * g3 + p14 * g4
        k2 = p02 * g0 + p12 * g1 + p22 * g2 + p23 * g3 + p24 * g4
        k3 = p03 * g0 + p13 * g1 + p23 * g2 + p33 * g3 + p34 * g4
        k4 = p04 * g0 + p14 * g1 + p24 * g2 + p34 * g3 + p44 * g4
        variance = g0 * k0 + g1 * k1 + g2 * k2 + g3 * k3 + g4 * k4
        return value, variance if variance > 0 else 0.0, (k0, k1, k2, k3, k4)

    def _move(self, covariances: Terms, gain: float) -> None:
        k0, k1, k2, k3, k4 = covariances
        c0, c1, c2, c3, c4 = self.coefficients
        largest = max(k0, k1, k2, k3, k4, -k0, -k1, -k2, -k3, -k4) * abs(gain)
        if largest > MAX_STEP:
            gain *= MAX_STEP / largest
        moved = c0 * exp(k0 * gain), c1 * exp(k1 * gain), c2 * exp(k2 * gain), c3 * exp(k3 * gain), c4 * exp(k4 * gain)
        if min(moved) < MIN_COEFFICIENT or max(moved) > MAX_COEFFICIENT:
            moved = within_bounds(moved)
        self.coefficients = moved

    def _relax(self, covariances: Terms, shrink: float) -> None:
        """Take away the uncertainty that the observation removed, and give back some of the prior's."""
        k0, k1, k2, k3, k4 = covariances
        p00, p01, p02, p03, p04, p11, p12, p13, p14, p22, p23, p24, p33, p34, p44 = self.covariance
        q0, shared, _, _, _, q1, _, _, _, q2, _, _, q3, _, q4 = FORGOTTEN
        s0, s1, s2, s3, s4 = k0 * shrink, k1 * shrink, k2 * shrink, k3 * shrink, k4 * shrink
        self.covariance = (
            KEPT * (p00 - s0 * k0) + q0,
            KEPT * (p01 - s0 * k1) + shared,
            KEPT * (p02 - s0 * k2) + shared,
            KEPT * (p03 - s0 * k3) + shared,
            KEPT * (p04 - s0 * k4) + shared,
            KEPT * (p11 - s1 * k1) + q1,
            KEPT * (p12 - s1 * k2) + shared,
            KEPT * (p13 - s1 * k3) + shared,
            KEPT * (p14 - s1 * k4) + shared,
            KEPT * (p22 - s2 * k2) + q2,
            KEPT * (p23 - s2 * k3) + shared,
            KEPT * (p24 - s2 * k4) + shared,
            KEPT * (p33 - s3 * k3) + q3,
            KEPT * (p34 - s3 * k4) + shared,
            KEPT * (p44 - s4 * k4) + q4,
        )

    def _follow_width(self, error: float, half_width: float) -> None:
        """Wider by 80 parts of the gain for a miss, narrower by 20 for a hit: at rest where 80 of 100 are hits."""
        gain = min(max(WIDTH_GAIN_SPAN / (self.samples + 1), MIN_WIDTH_GAIN), MAX_WIDTH_GAIN)
        followed = self.half_width * exp(gain * (COVERAGE if error > half_width else COVERAGE - 1))
        self.half_width = min(max(followed, MIN_HALF_WIDTH), MAX_HALF_WIDTH)

    def _watch_for_change(self, error: float) -> None:
        """Outliers fall among others. Where nothing else arrives any more, what was learned becomes as unsure as the prior."""
        if abs(error) < self.half_width / 2:
            self.run = 0
            return
        side = 1 if error > 0 else -1
        self.run = self.run + side if self.run * side > 0 else side
        if abs(self.run) >= CHANGE_RUN:
            self.run, self.covariance = 0, PRIOR_COVARIANCE

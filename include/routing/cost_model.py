"""What a render costs in device seconds, by model version, shape and pool: a stated prior at first, then what completions taught.

    seconds = network · N + attention · N · pixels + step · steps + image · images · pixels + request
          N = steps · (2 if guided else 1) · images · pixels

with pixels in units of the model's default size and a coefficient for each term: the network's cost by pixels and by their square, what a
step costs however little it computes (launches), what an image costs outside the loop (decoding), what a request costs at least (its
text). None is ever negative, so more pixels, steps or images never cost less. :mod:`include.routing.robust_regression` learns them.

What is predicted is the median. One completion, whatever it reports, scales a prediction by a factor of 2 at most; the first one of a
model also puts the terms in the place of the prior's plain product, where all but the network's begin at 1 % of a default request.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict, deque
from collections.abc import Iterable
from math import inf
from statistics import median
from typing import NamedTuple, Self

from include.contracts.control import ModelDefaults
from include.contracts.dispatch import RenderTask
from include.routing.robust_regression import MAX_VALUE, MIN_VALUE, RobustRegression, Terms, within_bounds

_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)
log = logging.getLogger(__name__)

MIN_PREDICTED_S, MAX_PREDICTED_S = MIN_VALUE, MAX_VALUE
PRIOR_BAND = 3.0  #: the prior's band reaches from a third of it to three times it
#: What each term but the network's costs by the prior, as a share of the model's default request.
PRIOR_SHARE = 0.01
RECENT_ERRORS = 256
ENCODING = 1  #: version of a learned key's text
ALL_POOLS = "*"


class Work(NamedTuple):
    """What a render asks of a device."""

    pixels: int  #: width · height as rendered, before any upscaling
    steps: int  #: that are run, which are fewer than asked for where an image is started from
    images: int
    guided: bool  #: classifier-free guidance computes each step twice

    @classmethod
    def of(cls, task: RenderTask) -> Self:
        return cls(task.width * task.height, task.steps_run, task.images, task.guided)


class Prediction(NamedTuple):
    seconds: float  #: device seconds
    low_s: float  #: about 80 % of completions are between this
    high_s: float  #: and this
    samples: int  #: completions behind it; 0 means the prior


class Learned:
    """What is known of one model version in one pool, or in all."""

    __slots__ = ("reference", "regression")

    def __init__(self, reference: int, regression: RobustRegression) -> None:
        self.reference = reference  #: pixels of the model's default size when it was first observed
        self.regression = regression

    def predict(self, work: Work) -> Prediction:
        seconds, factor = self.regression.predict(terms(work, self.reference))
        return Prediction(seconds, seconds / factor, seconds * factor, self.regression.samples)

    def observe(self, work: Work, seconds: float) -> float:
        return self.regression.observe(terms(work, self.reference), seconds)

    def encode(self) -> str:
        state = self.regression
        fields = {
            "v": ENCODING,
            "reference": self.reference,
            "coefficients": state.coefficients,
            "covariance": state.covariance,
            "half_width": state.half_width,
            "samples": state.samples,
            "run": state.run,
        }
        return _encoder.encode(fields)

    @classmethod
    def decode(cls, text: str) -> Self:
        """Raises :class:`ValueError` for text that :meth:`encode` of this release did not write."""
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.pop("v", None) != ENCODING:
            raise ValueError(f"v: this release reads learned costs of version {ENCODING}")
        try:
            reference = fields.pop("reference")
            if not isinstance(reference, int) or reference < 1:
                raise ValueError("reference: pixels of the default size are needed")
            fields["coefficients"], fields["covariance"] = tuple(fields["coefficients"]), tuple(fields["covariance"])
            return cls(reference, RobustRegression(**fields))
        except (KeyError, TypeError) as error:
            raise ValueError(f"learned costs need other fields: {error}") from error


class CostModel:
    """Predicts and learns. The state is one :class:`Learned` for each (model version, pool), and one a model version over all pools.

    :param max_models: how many of them are kept; the least recently observed goes
    """

    def __init__(self, *, max_models: int = 256) -> None:
        if max_models < 2:
            raise ValueError(f"max_models: {max_models} leaves no room for a pool and for all pools; give 2 or more")
        self._max_models = max_models
        self._learned: OrderedDict[str, Learned] = OrderedDict()
        self._errors: deque[float] = deque(maxlen=RECENT_ERRORS)

    def __len__(self) -> int:
        return len(self._learned)

    def predict(self, model: str, work: Work, defaults: ModelDefaults, pool: str | None = None) -> Prediction:
        """From what the pool taught, else from what all pools did, else by the prior. ``model`` is ``name/version``."""
        learned = self._learned.get(f"{pool}|{model}") if pool else None
        learned = learned or self._learned.get(f"{ALL_POOLS}|{model}")
        return learned.predict(work) if learned else prior(work, defaults)

    def observe(self, model: str, work: Work, seconds: float, defaults: ModelDefaults, pool: str) -> tuple[str, ...]:
        """Learn from a completion that used ``seconds`` of a device. Returns the keys that changed, those that went included.

        What is not a positive number teaches nothing: a completion whose images were there already used no device.
        """
        if not 0 < seconds < inf:
            return ()
        own, shared = f"{pool}|{model}", f"{ALL_POOLS}|{model}"
        known = self._learned.get(shared) or _unlearned(defaults)
        error = self._touch(own, known).observe(work, seconds)
        self._touch(shared, known).observe(work, seconds)
        self._errors.append(abs(error))
        return own, shared, *self._evict()

    def _touch(self, key: str, known: Learned) -> Learned:
        """The key's own, now the most recent. A new one starts from what is known of the model elsewhere, as unsure as the prior."""
        learned = self._learned.get(key)
        if learned is None:
            learned = self._learned[key] = Learned(known.reference, RobustRegression(known.regression.coefficients))
        else:
            self._learned.move_to_end(key)
        return learned

    def _evict(self) -> list[str]:
        return [self._learned.popitem(last=False)[0] for _ in range(len(self._learned) - self._max_models)]

    def error(self) -> float:
        """Median of |log(actual / predicted)| over the last completions; 0 before the first."""
        return median(self._errors) if self._errors else 0.0

    def encode(self) -> list[tuple[str, str]]:
        """Every key with what it learned, the least recently observed first."""
        return [(key, learned.encode()) for key, learned in self._learned.items()]

    def encode_key(self, key: str) -> str:
        """What a key learned; empty if it went, and is to be forgotten by a store as well."""
        learned = self._learned.get(key)
        return learned.encode() if learned else ""

    def restore(self, items: Iterable[tuple[str, str]]) -> None:
        """Take over what :meth:`encode` gave. What can't be read is logged and learned anew."""
        for key, text in items:
            if not text:
                continue
            try:
                self._learned[key] = Learned.decode(text)
            except ValueError as error:
                log.warning("learned costs of %s are dropped: %s", key, error)
        self._evict()


def terms(work: Work, reference: int) -> Terms:
    """What the coefficients multiply, in the order of the module's formula. ``reference`` is the unit of pixels."""
    pixels, steps, images, guided = work
    relative = pixels / reference
    rendered = images * relative
    network = rendered * (2.0 * steps if guided else steps)
    return network, network * relative, float(steps), rendered, 1.0


def prior(work: Work, defaults: ModelDefaults) -> Prediction:
    """The route's seconds a step, scaled by steps, images, pixels and guidance."""
    network = terms(work, defaults.width * defaults.height)[0]
    seconds = min(max(defaults.step_s * network, MIN_PREDICTED_S), MAX_PREDICTED_S)
    return Prediction(seconds, seconds / PRIOR_BAND, seconds * PRIOR_BAND, 0)


def _unlearned(defaults: ModelDefaults) -> Learned:
    """The prior's coefficients: nearly all in the network's term, a little in each other so that it can grow."""
    step = defaults.step_s * (2 if defaults.guidance > 1 else 1)
    per_step, per_request = PRIOR_SHARE * step, PRIOR_SHARE * step * defaults.steps
    coefficients = (1 - 4 * PRIOR_SHARE) * defaults.step_s, PRIOR_SHARE * defaults.step_s, per_step, per_request, per_request
    return Learned(defaults.width * defaults.height, RobustRegression(within_bounds(coefficients)))

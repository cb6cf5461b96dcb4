"""The order of the demo."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from rich.console import Console

from include.demo.airflow_runs import BegunRun
from include.demo.burst import default_route, run_burst
from include.demo.burst_judging import faults_of, high_lane
from include.demo.burst_plan import BurstSize, Capacity, measure_capacity
from include.demo.burst_view import degraded_words, refused_words
from include.demo.lifecycle import Lifecycle
from include.demo.observer import Observer
from include.demo.outcome import Outcome
from include.demo.rollback import Stream, calm_waits, pace, switch_and_roll_back
from include.demo.sending import Sender
from include.demo.steps import StepFailedError
from include.demo.traffic import check_gateway_images, run_traffic
from include.demo.worker_acts import play_worker_acts
from include.demo.worker_figures import acts_in_words
from include.demo.worker_judging import worker_faults
from include.platform.startup import Startup
from include.storage import open_store

FIRST_SEED, SECOND_SEED = 1, 2
#: Of prepare_dataset: these services run it, or it writes there.
PREPARATION_NEEDS = ("mlflow", "airflow-api-server", "airflow-scheduler", "airflow-dag-processor")


def play(outcome: Outcome, console: Console) -> None:
    """Fills the outcome as far as it gets. Raises what made a step fail."""
    dataset = _bring_up(outcome, console)
    lifecycle = Lifecycle(outcome.settings, outcome.options, console)
    _prepare_dataset(outcome, lifecycle, dataset)
    _make_first_version(outcome, lifecycle)
    second = lifecycle.begin_training(outcome.dataset_facts()["version"], outcome.options.second_steps, SECOND_SEED)
    _promote_first_version(outcome, lifecycle)
    _make_second_version(outcome, lifecycle, second)
    if outcome.options.variants:
        _compress(outcome, lifecycle)
    with Observer(outcome.settings) as observer, Sender(outcome.settings) as sender:
        _await_service(outcome, observer, outcome.versions[0].version)
        _send_traffic(outcome, observer, sender, console)
        capacity = _capacity(outcome, observer)
        _roll_back(outcome, lifecycle, observer, Stream(sender, outcome.options.run, pace(capacity)), console)
        if outcome.options.burst_seconds:
            _burst(outcome, capacity, observer, sender, console)
        _try_workers(outcome, observer, sender, console)


def _bring_up(outcome: Outcome, console: Console) -> Future[BegunRun]:
    """The dataset's run, which begins as soon as Airflow and MLflow are up: it needs nobody else."""
    from include.platform.bring_up import bring_up
    from include.platform.preflight import main as preflight

    def begin_dataset(startup: Startup) -> BegunRun:
        startup.await_healthy(PREPARATION_NEEDS)
        lifecycle = Lifecycle(outcome.settings, outcome.options, console)
        lifecycle.wait_ready()
        return lifecycle.begin_dataset()

    begun: list[Future[BegunRun]] = []
    with outcome.steps.step("Check the machine, start every service"), ThreadPoolExecutor(1, thread_name_prefix="demo-dataset") as pool:
        if preflight(["--ports"]):
            raise StepFailedError("the machine is not ready; the lines above say what is missing")
        if bring_up(lambda startup: begun.append(pool.submit(begin_dataset, startup))):
            raise StepFailedError("not every service is healthy; `atelier status` shows which, `atelier logs NAME` why")
    return begun[0]


def _prepare_dataset(outcome: Outcome, lifecycle: Lifecycle, begun: Future[BegunRun]) -> None:
    with outcome.steps.step("Prepare the dataset, begun while services started (Airflow: prepare_dataset)") as step:
        outcome.dataset = lifecycle.finish(begun.result())
        facts = outcome.dataset_facts()
        step.note = f"{facts['version']}: {', '.join(f'{count} {split}' for split, count in facts['counts'].items())}"


def _make_first_version(outcome: Outcome, lifecycle: Lifecycle) -> None:
    steps, options = outcome.steps, outcome.options
    with steps.step("Train a model (Airflow: train_model)") as step:
        training = lifecycle.finish(lifecycle.begin_training(outcome.dataset_facts()["version"], options.train_steps, FIRST_SEED))
        step.note = f"version {training.result['version']} after {options.train_steps} optimizer steps"
    with steps.step("Measure it (Airflow: evaluate_model)") as step:
        version = lifecycle.evaluate(training)
        outcome.versions.append(version)
        step.note = ", ".join(f"{name} {value:.3g}" for name, value in list(version.metrics.items())[:3])


def _promote_first_version(outcome: Outcome, lifecycle: Lifecycle) -> None:
    with outcome.steps.step("Promote it, with a person's approval, while the second version trains (Airflow: promote_model)") as step:
        promotion = lifecycle.promote(outcome.versions[0].version, "the demo's first version")
        outcome.promotions.append(promotion)
        move = promotion.run.result
        step.note = f"champion is version {move['version']}, was {move['previous'] or 'none'}"


def _compress(outcome: Outcome, lifecycle: Lifecycle) -> None:
    with outcome.steps.step("Measure compressed variants of it (Airflow: compress_model)") as step:
        sweep = outcome.sweep = lifecycle.compress(outcome.versions[0].version)
        offered = sweep.result["offered"]
        step.note = f"{', '.join(offered) or 'none'} of {len(outcome.options.variants)} worth using"


def _await_service(outcome: Outcome, observer: Observer, version: str) -> None:
    """Until a worker has the version loaded, so that the traffic shows scheduling, not loading."""
    wanted = f"{outcome.settings.model_name}/{version}"
    with outcome.steps.step("The workers load the champion") as step:
        if not observer.wait(lambda seen: any(wanted in worker.warm for worker in seen.workers.values()), 60):
            raise StepFailedError(
                f"no worker has loaded {wanted} within 60 s; see `atelier logs registry-watcher` and `atelier logs worker-0`"
            )
        step.note = f"{wanted} is warm"


def _send_traffic(outcome: Outcome, observer: Observer, sender: Sender, console: Console) -> None:
    name = f"Send {outcome.options.requests} requests, good and bad, to both topics and the gateway"
    with outcome.steps.step(name) as step:
        traffic = outcome.traffic = run_traffic(outcome.settings, outcome.options, observer, sender, console)
        outcome.faults += [
            f"{verdict.planned.label} ({verdict.planned.request_id or verdict.planned.way}): {verdict.outcome} {verdict.detail}".strip()
            for verdict in traffic.verdicts
            if not verdict.ok
        ]
        outcome.faults += check_gateway_images(traffic, sender)
        completed, refused = (sum(verdict.ok for verdict in found) for found in (traffic.good(), traffic.bad()))
        step.note = (
            f"{completed} of {len(traffic.good())} completed with their images, {refused} of {len(traffic.bad())} refused with their reason"
        )


def _make_second_version(outcome: Outcome, lifecycle: Lifecycle, training: BegunRun) -> None:
    with outcome.steps.step("Make a second version (Airflow: train_model, evaluate_model)") as step:
        outcome.versions.append(lifecycle.evaluate(lifecycle.finish(training)))
        step.note = f"version {outcome.versions[-1].version}"


def _roll_back(outcome: Outcome, lifecycle: Lifecycle, observer: Observer, stream: Stream, console: Console) -> None:
    first, second = (found.version for found in outcome.versions)
    with outcome.steps.step("Try the second version on live requests, promote it, then move the alias back in MLflow") as step:
        stream.start()
        try:
            rollback = outcome.rollback = switch_and_roll_back(
                outcome.settings,
                observer,
                stream,
                (first, second),
                lambda: outcome.promotions.append(lifecycle.promote(second, "the demo's second version, to be taken back")),
                lambda line: console.print(f"   {line}", highlight=False, markup=False),
            )
        finally:
            stream.stop()
        outcome.faults += [f"{shot.request_id}: {shot.event.state} during the switch" for shot in rollback.lost]
        step.note = f"{rollback.seconds:.2f} s from the move of the alias to the first image of version {first}"


def _burst(outcome: Outcome, capacity: Capacity, observer: Observer, sender: Sender, console: Console) -> None:
    with outcome.steps.step("Send a burst of five times what the workers can do") as step:
        size = BurstSize(run=outcome.options.run, capacity=capacity, seconds=outcome.options.burst_seconds)
        burst = outcome.burst = run_burst(outcome.settings, size, observer, sender, console)
        high = outcome.high = high_lane(burst, calm_waits(outcome.rollback) if outcome.rollback else ())
        outcome.faults += faults_of(burst, high, open_store(outcome.settings))
        completed = sum(fate.took_s is not None for fate in burst.fates)
        step.note = (
            f"{len(burst.fates)} sent, {completed} completed; degraded {degraded_words(burst.fates)}; refused {refused_words(burst.fates)}"
        )


def _capacity(outcome: Outcome, observer: Observer) -> Capacity:
    """By what the workers did in the traffic before."""
    workers = observer.ask(lambda seen: sum(not worker.gone for worker in seen.workers.values()))
    ended = [verdict.event for verdict in outcome.traffic.good() if verdict.event is not None] if outcome.traffic else []
    return measure_capacity(ended, default_route(outcome.settings), workers)


def _try_workers(outcome: Outcome, observer: Observer, sender: Sender, console: Console) -> None:
    with outcome.steps.step("Watch a render, cancel one in the middle, kill a worker in the middle of others") as step:
        acts = outcome.workers = play_worker_acts(outcome.settings, outcome.options.run, observer, sender, console)
        outcome.faults += worker_faults(acts)
        step.note = acts_in_words(acts)

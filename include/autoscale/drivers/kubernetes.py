"""Workers as pods of a Deployment or StatefulSet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from include.autoscale.drivers.base import DriverError, PoolDriver, PoolState, checked
from include.autoscale.rules import KubernetesTarget

TIMEOUT_S = (3.0, 10.0)  #: to connect, to answer
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
LEAVES_FIRST, STAYS = "-100", "0"


def connect(context: str = "") -> client.ApiClient:
    """The cluster that this runs in, or the kubeconfig's. Raises :class:`DriverError` where there is neither."""
    try:
        if context:
            return config.new_client_from_config(context=context)
        configuration = client.Configuration()
        config.load_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise DriverError(f"no Kubernetes cluster is configured: {error}; set KUBECONFIG, or name a context of it") from error
    return client.ApiClient(configuration)


class KubernetesDriver(PoolDriver):
    """Speaks to the scale subresource, so that it needs the right to scale and not the right to change the workload.

    A worker's id is its pod's name (``--worker-id $(POD_NAME)`` from the downward API). A Deployment removes the pods with the least
    deletion cost first, so those that should leave get a lower one; a StatefulSet always removes the last.
    The pods' ``terminationGracePeriodSeconds`` must exceed the worker's ``--drain-s``.
    """

    def __init__(self, target: KubernetesTarget, api: client.ApiClient | None = None) -> None:
        self._namespace = target.namespace
        self._kind, _, self._name = target.workload.partition("/")
        api = api or connect(target.context)
        api.configuration.retries = False
        self._apps, self._core = client.AppsV1Api(api), client.CoreV1Api(api)
        self._cheap: set[str] = set()

    def observe(self) -> PoolState:
        with self._asked():
            scale = self._call("read_namespaced_{}_scale")
            selector = scale.status.selector
            pods: list[Any] = self._core.list_namespaced_pod(self._namespace, label_selector=selector, _request_timeout=TIMEOUT_S).items
        present = [pod for pod in pods if pod.metadata.deletion_timestamp is None and pod.status.phase in ("Pending", "Running")]
        wanted = scale.spec.replicas or 0
        # Pods that the cluster has not come to delete or to make yet are on their way out or in too.
        ordered = self._stay_order(present)
        stays, surplus = ordered[:wanted], ordered[wanted:]
        ready = [pod.metadata.name for pod in stays if _is_ready(pod)]
        pending = [pod.metadata.name for pod in stays if not _is_ready(pod)]
        unborn = [f"{self._name}-unborn-{number}" for number in range(wanted - len(stays))]
        going = [pod.metadata.name for pod in pods if pod.metadata.deletion_timestamp is not None]
        going += [pod.metadata.name for pod in surplus]
        return PoolState(running=tuple(ready), starting=(*pending, *unborn), draining=tuple(going))

    def scale_to(self, count: int, leaving: Sequence[str] = ()) -> None:
        checked(count)
        with self._asked():
            present = self._call("read_namespaced_{}_scale").spec.replicas or 0
            if count < present and self._kind == "deployment":
                self._prefer(leaving[: present - count])
            if count != present:
                self._call("patch_namespaced_{}_scale", {"spec": {"replicas": count}})

    def _stay_order(self, pods: list[Any]) -> list[Any]:
        """Those first that the workload's controller deletes last. A StatefulSet deletes one after the other, each once the one before is
        gone; a Deployment's controller has a moment to come to it."""
        if self._kind == "statefulset":
            return sorted(pods, key=_ordinal)
        return sorted(pods, key=lambda pod: (_is_ready(pod), _deletion_cost(pod)), reverse=True)

    def _prefer(self, leaving: Sequence[str]) -> None:
        """Lower what it costs to delete them, and take that back from those that were to leave before and did not."""
        for name in (self._cheap - set(leaving)) | set(leaving):
            cost = LEAVES_FIRST if name in leaving else STAYS
            body = {"metadata": {"annotations": {DELETION_COST: cost}}}
            try:
                self._core.patch_namespaced_pod(name, self._namespace, body, _request_timeout=TIMEOUT_S)
            except ApiException as error:
                if error.status != 404:  # a pod that is gone needs no cost
                    raise
        self._cheap = set(leaving)

    def _call(self, method: str, *body: Any) -> Any:
        return getattr(self._apps, method.format(self._kind.replace("statefulset", "stateful_set")))(
            self._name, self._namespace, *body, _request_timeout=TIMEOUT_S
        )

    @contextmanager
    def _asked(self) -> Iterator[None]:
        what = f"{self._kind} {self._name} in namespace {self._namespace}"
        try:
            yield
        except ApiException as error:
            raise DriverError(f"{what}: the Kubernetes API answers {error.status} {error.reason}{_HINTS.get(error.status, '')}") from error
        except HTTPError as error:
            raise DriverError(f"{what}: the Kubernetes API does not answer: {error}") from error


_HINTS = {
    401: "; its credentials are not accepted",
    403: "; its role needs get and patch on the scale subresource, list and patch on pods",
    404: "; create it, or correct driver.workload",
}


def _ordinal(pod: Any) -> int:
    number = pod.metadata.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _deletion_cost(pod: Any) -> int:
    return int((pod.metadata.annotations or {}).get(DELETION_COST, STAYS))


def _is_ready(pod: Any) -> bool:
    return any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions or ())

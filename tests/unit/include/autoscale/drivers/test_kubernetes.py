from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from include.autoscale.drivers.base import DriverError
from include.autoscale.drivers.kubernetes import KubernetesDriver, connect
from include.autoscale.rules import KubernetesTarget
from tests.support.kubernetes_api import ClusterDouble, cluster

TARGET = KubernetesTarget(namespace="atelier", workload="deployment/worker")


@pytest.fixture
def double() -> Iterator[ClusterDouble]:
    with cluster() as made:
        yield made


def driver_of(url: str, target: KubernetesTarget = TARGET) -> KubernetesDriver:
    return KubernetesDriver(target, client.ApiClient(client.Configuration(host=url)))


def test_only_the_scale_is_patched(double: ClusterDouble) -> None:
    driver = driver_of(double.url)
    driver.scale_to(3)
    driver.scale_to(3)
    assert double.patches == [{"spec": {"replicas": 3}}]


@pytest.mark.parametrize(
    ("patch", "status"),
    [({"spec": {"replicas": -1}}, 422), ({"spec": {"replica": 1}}, 400), ({"replicas": 1}, 400), ([{"op": "replace"}], 415)],
)
def test_the_double_refuses_what_a_cluster_refuses(double: ClusterDouble, patch: Any, status: int) -> None:
    apps = client.AppsV1Api(client.ApiClient(client.Configuration(host=double.url)))
    with pytest.raises(ApiException) as raised:
        apps.patch_namespaced_deployment_scale("worker", "atelier", patch)
    assert raised.value.status == status and double.patches == []


def test_pods_that_find_no_node_and_pods_not_made_yet_are_starting(double: ClusterDouble) -> None:
    driver = driver_of(double.url)
    double.capacity = 2
    driver.scale_to(3)
    double.settle()
    double.replicas = 5  # its controller has not come to it
    found = driver.observe()
    assert (len(found.running), len(found.starting)) == (2, 3)


def test_who_was_to_leave_and_stayed_is_as_dear_as_the_others_again(double: ClusterDouble) -> None:
    driver = driver_of(double.url)
    driver.scale_to(4)
    double.settle()
    first, second, *_ = driver.observe().running
    driver.scale_to(3, leaving=(first,))
    assert "deletionTimestamp" in double.pods[first]["metadata"]
    double.settle()
    driver.scale_to(2, leaving=(second,))
    assert first not in double.pods and "deletionTimestamp" in double.pods[second]["metadata"]


@pytest.mark.parametrize(
    ("code", "words"), [(401, "credentials"), (403, "get and patch on the scale"), (404, "driver.workload"), (500, "500")]
)
def test_a_refusal_says_what_would_help(double: ClusterDouble, code: int, words: str) -> None:
    double.refusal = code
    with pytest.raises(DriverError, match=words) as raised:
        driver_of(double.url).observe()
    assert "deployment worker in namespace atelier" in str(raised.value)


def test_another_workload_is_not_found(double: ClusterDouble) -> None:
    with pytest.raises(DriverError, match=r"statefulset worker .*404"):
        driver_of(double.url, KubernetesTarget(namespace="atelier", workload="statefulset/worker")).scale_to(1)


def test_no_server_is_an_error_of_its_own() -> None:
    with pytest.raises(DriverError, match="does not answer"):
        driver_of("http://127.0.0.1:9").observe()


def test_without_a_cluster_the_fix_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(DriverError, match="set KUBECONFIG"):
        connect()

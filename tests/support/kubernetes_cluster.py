"""A workload on a real Kubernetes API server that has no nodes: this does what kubelets would. See tests/support/kube_apiserver."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kubernetes import client, config

from include.autoscale.rules import KubernetesTarget
from tests.support.waiting import wait_for

VARIABLE = "ATELIER_TEST_KUBECONFIG"
LABELS = {"app": "worker", "pool": "spot"}
SETTLED_S = 60.0


class ClusterPool:
    """One workload in a namespace of its own, and the rights that the documentation says the driver needs.

    :param kind: deployment or statefulset
    """

    def __init__(self, kubeconfig: str, kind: str) -> None:
        self._admin = config.new_client_from_config(kubeconfig, context="admin")
        self.driver_api = config.new_client_from_config(kubeconfig, context="autoscaler")
        self._core, self._apps = client.CoreV1Api(self._admin), client.AppsV1Api(self._admin)
        self._kind, self.namespace = kind, f"atelier-{uuid.uuid4().hex[:8]}"
        self.target = KubernetesTarget(namespace=self.namespace, workload=f"{kind}/worker")

    def create(self) -> None:
        self._core.create_namespace({"metadata": {"name": self.namespace}})
        self._grant()
        if self._kind == "deployment":
            self._apps.create_namespaced_deployment(self.namespace, self._workload())
        else:
            self._apps.create_namespaced_stateful_set(
                self.namespace, {**self._workload(), "spec": {**self._workload()["spec"], "serviceName": "worker"}}
            )

    def close(self) -> None:
        self._core.delete_namespace(self.namespace)
        self._admin.close()
        self.driver_api.close()

    def settle(self) -> None:
        """Returns once as many pods as are asked for are ready, and no others are there."""
        wait_for(self._settled, SETTLED_S, f"the pods of {self.namespace} settle")

    def pods(self) -> list[Any]:
        found: list[Any] = self._core.list_namespaced_pod(self.namespace).items
        return found

    def _settled(self) -> bool:
        pods = self.pods()
        for pod in pods:
            if pod.metadata.deletion_timestamp is not None:
                self._core.delete_namespaced_pod(pod.metadata.name, self.namespace, grace_period_seconds=0)
            elif pod.status.phase == "Pending":
                ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                self._core.patch_namespaced_pod_status(pod.metadata.name, self.namespace, {"status": ready})
        wanted = self._replicas()
        return len(pods) == wanted and all(pod.status.phase == "Running" and pod.metadata.deletion_timestamp is None for pod in pods)

    def _replicas(self) -> int:
        read = self._apps.read_namespaced_deployment if self._kind == "deployment" else self._apps.read_namespaced_stateful_set
        return int(read("worker", self.namespace).spec.replicas or 0)

    def _workload(self) -> dict[str, Any]:
        pod = {
            "nodeName": "nowhere",  # on a node, a pod that is deleted stays until its kubelet says that it ended
            "terminationGracePeriodSeconds": 600,
            "containers": [{"name": "worker", "image": "worker"}],
        }
        template = {"metadata": {"labels": LABELS}, "spec": pod}
        return {"metadata": {"name": "worker"}, "spec": {"replicas": 0, "selector": {"matchLabels": LABELS}, "template": template}}

    def _grant(self) -> None:
        rules = [
            {"apiGroups": ["apps"], "resources": ["deployments/scale", "statefulsets/scale"], "verbs": ["get", "patch"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "patch"]},
        ]
        rights = client.RbacAuthorizationV1Api(self._admin)
        rights.create_namespaced_role(self.namespace, {"metadata": {"name": "autoscaler"}, "rules": rules})
        who = {"kind": "Group", "name": "autoscalers", "apiGroup": "rbac.authorization.k8s.io"}
        role = {"kind": "Role", "name": "autoscaler", "apiGroup": "rbac.authorization.k8s.io"}
        rights.create_namespaced_role_binding(self.namespace, {"metadata": {"name": "autoscaler"}, "roleRef": role, "subjects": [who]})


@contextmanager
def cluster_pool(kubeconfig: str, kind: str) -> Iterator[ClusterPool]:
    pool = ClusterPool(kubeconfig, kind)
    pool.create()
    try:
        yield pool
    finally:
        pool.close()

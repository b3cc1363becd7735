"""What is wrong with Kubernetes manifests, found without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate

Document = dict[str, Any]
# The oldest Kubernetes that is promised, and the newest whose schemas are there.
VERSIONS = ("1.29", kubernetes_validate.latest_version())
# Made by hand, for they hold secrets.
EXTERNAL_SECRETS = {"nann-object-store"}


def problems(documents: list[Document]) -> list[str]:
    """One line for each fault: against the schemas, of references, and of what this project promises."""
    found = [problem for document in documents for problem in _schema_problems(document)]
    # What does not fit its schema cannot be looked into.
    return found or [*_reference_problems(documents), *_pod_problems(documents)]


def of_kind(documents: list[Document], kind: str) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def _name(document: Document) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def _schema_problems(document: Document) -> Iterator[str]:
    if document["kind"] == "ServiceMonitor":
        return  # The Prometheus operator's, not Kubernetes'; checked elsewhere.
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(map(str, error.path))
            yield f"{_name(document)} against Kubernetes {version}: {path}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{_name(document)}: {error.message}"


def _pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    for deployment in of_kind(documents, "Deployment"):
        yield _name(deployment), deployment["spec"]["template"]


def _matches(selector: dict[str, str] | None, labels: dict[str, str]) -> bool:
    return bool(selector) and selector is not None and selector.items() <= labels.items()


def _reference_problems(documents: list[Document]) -> Iterator[str]:
    names = {_name(document) for document in documents}
    if len(names) != len(documents):
        yield "two documents of one kind and name"
    for document in documents:
        spec = document.get("spec", {})
        if document["kind"] == "Service":
            yield from _selector_problems(document, spec.get("selector"), documents)
            yield from _service_port_problems(document, documents)
        elif document["kind"] == "PodDisruptionBudget":
            yield from _selector_problems(document, spec.get("selector", {}).get("matchLabels"), documents)
        elif document["kind"] == "HorizontalPodAutoscaler":
            target = f"{spec['scaleTargetRef']['kind']}/{spec['scaleTargetRef']['name']}"
            if target not in names:
                yield f"{_name(document)}: no {target} to scale"
        elif document["kind"] == "ServiceMonitor":
            yield from _monitor_problems(document, documents)
    for owner, pod in _pods(documents):
        yield from _pod_reference_problems(owner, pod, names)


def _selector_problems(
    document: Document, selector: dict[str, str] | None, documents: list[Document]
) -> Iterator[str]:
    """Services and budgets are of one deployment each: one that spans shards would mix them."""
    selected = [owner for owner, pod in _pods(documents) if _matches(selector, pod["metadata"]["labels"])]
    if len(selected) != 1:
        yield f"{_name(document)}: selects the pods of {selected or 'no deployment'} by {selector}"


def _service_port_problems(service: Document, documents: list[Document]) -> Iterator[str]:
    for _, pod in _pods(documents):
        if _matches(service["spec"].get("selector"), pod["metadata"]["labels"]):
            ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in ports:
                    yield f"{_name(service)}: no port {port['targetPort']} in the pods, which have {ports}"


def _monitor_problems(monitor: Document, documents: list[Document]) -> Iterator[str]:
    selector = monitor["spec"]["selector"]["matchLabels"]
    services = [
        service
        for service in of_kind(documents, "Service")
        if _matches(selector, service["metadata"].get("labels", {}))
    ]
    for endpoint in monitor["spec"]["endpoints"]:
        with_port = [
            service
            for service in services
            if endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        ]
        # Pods behind two of them would be counted twice.
        if len(with_port) != len(of_kind(documents, "Deployment")):
            yield f"{_name(monitor)}: port {endpoint['port']} is that of {list(map(_name, with_port))}"


def _pod_reference_problems(owner: str, pod: Document, names: set[str]) -> Iterator[str]:
    spec = pod["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for volume in volumes.values():
        if "configMap" in volume and f"ConfigMap/{volume['configMap']['name']}" not in names:
            yield f"{owner}: no ConfigMap {volume['configMap']['name']}"
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if claim is not None and f"PersistentVolumeClaim/{claim}" not in names:
            yield f"{owner}: no PersistentVolumeClaim {claim}"
    for spread in spec["topologySpreadConstraints"]:
        if not _matches(spread["labelSelector"]["matchLabels"], pod["metadata"]["labels"]):
            yield f"{owner}: its pods are not those that topologySpreadConstraints spread"
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        where = f"{owner}: container {container['name']}"
        for mount in container["volumeMounts"]:
            if mount["name"] not in volumes:
                yield f"{where}: no volume {mount['name']}"
        for source in container.get("envFrom", []):
            if "configMapRef" in source and f"ConfigMap/{source['configMapRef']['name']}" not in names:
                yield f"{where}: no ConfigMap {source['configMapRef']['name']}"
            if "secretRef" in source and source["secretRef"]["name"] not in EXTERNAL_SECRETS:
                yield f"{where}: no Secret {source['secretRef']['name']}"


def _pod_problems(documents: list[Document]) -> Iterator[str]:
    """Non-root, read-only, with resources, probes and a wait before SIGTERM."""
    for owner, pod in _pods(documents):
        spec = pod["spec"]
        if not spec["securityContext"].get("runAsNonRoot") or not spec["securityContext"].get("runAsUser"):
            yield f"{owner}: may run as root"
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            yield from _container_problems(f"{owner}: container {container['name']}", container)
        server = spec["containers"][0]
        ports = {port["name"] for port in server["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if server.get(probe, {}).get("httpGet", {}).get("port") not in ports:
                yield f"{owner}: {probe} asks no port of the server"
        wait = int(server["lifecycle"]["preStop"]["exec"]["command"][-1])
        if wait >= spec["terminationGracePeriodSeconds"]:
            yield f"{owner}: preStop waits {wait} s, longer than the pod has to end"


def _container_problems(where: str, container: Document) -> Iterator[str]:
    context = container.get("securityContext", {})
    if not context.get("readOnlyRootFilesystem"):
        yield f"{where}: can write to its root file system"
    if context.get("allowPrivilegeEscalation") is not False or context.get("capabilities", {}).get(
        "drop"
    ) != ["ALL"]:
        yield f"{where}: has privileges to spare"
    resources = container.get("resources", {})
    if {"cpu", "memory"} - resources.get("requests", {}).keys() or "memory" not in resources.get(
        "limits", {}
    ):
        yield f"{where}: expected requests of cpu and memory and a limit of memory, found {resources}"
    if any(variable["name"] == "LD_PRELOAD" for variable in container.get("env", [])):
        yield f"{where}: LD_PRELOAD for all of its processes; the entry point sets it for the server alone"

"""The Kubernetes manifests, rendered by kubectl and checked against the schemas without a cluster."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from support import tensorflow_versions
from support.kubernetes_checks import of_kind, problems
from support.processes import ROOT

Documents = list[dict[str, Any]]
Render = Callable[[Path], Documents]
Check = Callable[[Documents], list[str]]
Break = Callable[[Documents], object]
OVERLAYS = ["volume", "object-store", "preload", "sharded", "live"]


@pytest.fixture(scope="module")
def rendered(render: Render, manifests: Path) -> dict[str, Documents]:
    return {name: render(manifests / "overlays" / name) for name in OVERLAYS}


def pod(documents: Documents) -> dict[str, Any]:
    spec: dict[str, Any] = of_kind(documents, "Deployment")[0]["spec"]["template"]["spec"]
    return spec


def test_every_overlay_is_rendered(manifests: Path) -> None:
    assert sorted(path.name for path in (manifests / "overlays").iterdir()) == sorted(OVERLAYS)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_sound(rendered: dict[str, Documents], name: str) -> None:
    assert problems(rendered[name]) == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_has_all_that_a_deployment_needs(rendered: dict[str, Documents], name: str) -> None:
    kinds = {document["kind"] for document in rendered[name]}
    assert {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget"} <= kinds
    assert {"ConfigMap", "ServiceMonitor"} <= kinds
    headless = [
        service
        for service in of_kind(rendered[name], "Service")
        if service["spec"].get("clusterIP") == "None"
    ]
    assert len(headless) == len(of_kind(rendered[name], "Deployment"))


def first(documents: Documents, kind: str) -> dict[str, Any]:
    return of_kind(documents, kind)[0]["spec"]


def server(documents: Documents) -> dict[str, Any]:
    container: dict[str, Any] = pod(documents)["containers"][0]
    return container


BREAKAGES: dict[str, tuple[Break, str]] = {
    "a misspelt field": (
        lambda d: server(d).update(readynessProbe=server(d).pop("readinessProbe")),
        "readynessProbe",
    ),
    "a list for a number": (
        lambda d: first(d, "PodDisruptionBudget").update(maxUnavailable=[]),
        "maxUnavailable",
    ),
    "a missing required field": (
        lambda d: first(d, "Deployment").pop("selector"),
        "'selector' is a required",
    ),
    "an API that is gone": (
        lambda d: of_kind(d, "HorizontalPodAutoscaler")[0].update(apiVersion="autoscaling/v2beta2"),
        "Couldn't find schema",
    ),
    "an unknown kind": (lambda d: of_kind(d, "Service")[0].update(kind="Servce"), "Couldn't find schema"),
    "a selector of no pod": (
        lambda d: first(d, "Service")["selector"].update({"app.kubernetes.io/name": "other"}),
        "no deployment",
    ),
    "a budget without a selector": (
        lambda d: first(d, "PodDisruptionBudget").pop("selector"),
        "no deployment",
    ),
    "an autoscaler of nothing": (
        lambda d: first(d, "HorizontalPodAutoscaler")["scaleTargetRef"].update(name="other"),
        "no Deployment/other",
    ),
    "a service port that the pods lack": (
        lambda d: first(d, "Service")["ports"][0].update(targetPort="http"),
        "no port http",
    ),
    "a volume that is not there": (lambda d: pod(d)["volumes"].pop(), "no volume"),
    "a configuration that is not there": (
        lambda d: server(d)["envFrom"][0]["configMapRef"].update(name="other"),
        "no ConfigMap other",
    ),
    "a claim that is not there": (
        lambda d: d.remove(of_kind(d, "PersistentVolumeClaim")[0]),
        "no PersistentVolumeClaim",
    ),
    "root": (lambda d: pod(d)["securityContext"].pop("runAsNonRoot"), "may run as root"),
    "a writable root": (lambda d: server(d)["securityContext"].pop("readOnlyRootFilesystem"), "can write"),
    "no memory limit": (lambda d: server(d)["resources"].pop("limits"), "a limit of memory"),
    "a probe of another port": (
        lambda d: server(d)["livenessProbe"]["httpGet"].update(port="http"),
        "livenessProbe",
    ),
    "no time after preStop": (lambda d: pod(d).update(terminationGracePeriodSeconds=10), "preStop waits"),
    "LD_PRELOAD for the whole container": (
        lambda d: server(d).update(env=[{"name": "LD_PRELOAD", "value": "/x.so"}]),
        "LD_PRELOAD",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_manifest_is_found(rendered: dict[str, Documents], breakage: str) -> None:
    documents = copy.deepcopy(rendered["volume"])
    break_it, expected = BREAKAGES[breakage]
    break_it(documents)
    assert any(expected in problem for problem in problems(documents))


def test_service_monitors_fit_their_definition(
    rendered: dict[str, Documents], service_monitor_problems: Check
) -> None:
    """Once for all, with two broken ones: the classes take seconds to load."""
    (monitor,) = of_kind(rendered["volume"], "ServiceMonitor")
    for documents in rendered.values():
        assert of_kind(documents, "ServiceMonitor") == [monitor]
    misspelt, no_duration = copy.deepcopy(monitor), copy.deepcopy(monitor)
    misspelt["spec"]["endpoints"][0]["intervall"] = "15s"
    no_duration["spec"]["endpoints"][0]["interval"] = "15 seconds"
    assert service_monitor_problems([monitor, misspelt, no_duration]) == [
        "[1]: a field that ServiceMonitor does not have",
        "[2]: spec.endpoints.0.interval: string_pattern_mismatch",
    ]


def test_a_service_that_spans_shards_is_found(rendered: dict[str, Documents]) -> None:
    documents = copy.deepcopy(rendered["sharded"])
    first(documents, "Service")["selector"].pop("nann.shard")
    assert any("selects the pods of" in problem for problem in problems(documents))


def test_each_shard_serves_its_own_folder_of_the_same_export(
    rendered: dict[str, Documents],
) -> None:
    """`nann export --out MODELS/nann/1 --shards 4` writes these folders."""
    from nann.export import shard_dirs

    folders = {
        document["data"]["MODEL_FOLDER"]
        for document in of_kind(rendered["sharded"], "ConfigMap")
        if "MODEL_FOLDER" in document["data"]
    }
    assert folders == {path.parent.name for path in shard_dirs("MODELS/nann/1", 4)}
    assert len(of_kind(rendered["sharded"], "Deployment")) == 4


def test_shards_keep_the_version_before_the_newest(rendered: dict[str, Documents]) -> None:
    configs = [
        document["data"]["models.config"]
        for document in of_kind(rendered["sharded"], "ConfigMap")
        if "models.config" in document["data"]
    ]
    assert len(configs) == 4
    for config in configs:
        parsed = text_format.Parse(config, model_server_config_pb2.ModelServerConfig())
        (model,) = parsed.model_config_list.config
        assert (model.name, model.base_path) == ("nann", "/models/nann")
        assert model.model_version_policy.latest.num_versions == 2


def test_the_server_reads_its_monitoring_page_where_prometheus_looks(
    rendered: dict[str, Documents],
) -> None:
    documents = rendered["volume"]
    (text,) = (
        document["data"]["monitoring.config"]
        for document in of_kind(documents, "ConfigMap")
        if "monitoring.config" in document["data"]
    )
    path = first(documents, "ServiceMonitor")["endpoints"][0]["path"]
    assert text.strip() == f'prometheus_config {{ enable: true, path: "{path}" }}'
    assert "--monitoring_config_file=/etc/nann/monitoring.config" in server(documents)["args"]


def test_the_autoscaler_asks_for_a_metric_that_the_ops_count(
    rendered: dict[str, Documents], manifests: Path
) -> None:
    (rule,) = yaml.safe_load((manifests / "monitoring" / "prometheus-adapter.yaml").read_text())["rules"][
        "custom"
    ]
    pods_metric = first(rendered["volume"], "HorizontalPodAutoscaler")["metrics"][0]["pods"]["metric"]["name"]
    assert rule["name"]["as"] == pods_metric
    # TensorFlow Serving writes /a/b as :a:b on its Prometheus page.
    counted = re.findall(r'"(/nann/\w+)"', (ROOT / "ops" / "kernels" / "metrics" / "metrics.cc").read_text())
    pages = {name.replace("/", ":") for name in counted}
    assert re.search(r'__name__="([^"]+)"', rule["seriesQuery"])[1] in pages  # type: ignore[index]
    assert any(re.fullmatch(rule["name"]["matches"], page) for page in pages)


def test_preload_leaves_the_stock_image_as_it_is(rendered: dict[str, Documents]) -> None:
    spec = pod(rendered["preload"])
    image, _, tag = spec["containers"][0]["image"].partition(":")
    assert image == "tensorflow/serving"
    assert tag.rpartition(".")[0] in tensorflow_versions.supported()
    (init,) = spec["initContainers"]
    assert init["image"].partition(":")[2] == tag
    assert spec["containers"][0]["command"] == ["/usr/local/lib/nann/entrypoint"]


@pytest.mark.parametrize("component", ["object-store", "preload"])
def test_components_combine_with_shards(
    render: Render, manifests: Path, tmp_path: Path, component: str
) -> None:
    """As docs/deploy.md says: one more line in each shard's folder."""
    copied = tmp_path / "kubernetes"
    shutil.copytree(manifests, copied)
    for shard in (copied / "overlays" / "sharded").glob("shard-*/kustomization.yaml"):
        content = yaml.safe_load(shard.read_text())
        content["components"].append(f"../../../components/{component}")
        shard.write_text(yaml.safe_dump(content))
    documents = render(copied / "overlays" / "sharded")
    assert problems(documents) == []
    assert len(of_kind(documents, "Deployment")) == 4
    assert all(
        len(deployment["spec"]["template"]["spec"]["initContainers"]) == 1
        for deployment in of_kind(documents, "Deployment")
    )


def test_the_overlay_of_the_documents(render: Render, manifests: Path, tmp_path: Path) -> None:
    copied = tmp_path / "kubernetes"
    shutil.copytree(manifests, copied)
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)
    (copied / "overlays" / "production").mkdir()
    (copied / "overlays" / "production" / "kustomization.yaml").write_text(text)
    documents = render(copied / "overlays" / "production")
    assert problems(documents) == []
    assert {document["metadata"]["namespace"] for document in documents} == {"retrieval"}
    assert server(documents)["image"] == "REGISTRY/nann-serving:1"
    assert server(documents)["resources"]["limits"]["memory"] == "16Gi"

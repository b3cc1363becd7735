"""What the answer to a reload tells of metrics."""

from __future__ import annotations

from nann.serving.server._metrics import Metrics


def test_the_value_of_a_metric_is_its_first_sample() -> None:
    """As recorded: a model that is added counts nothing, since the sample of another comes before its own."""
    metrics = Metrics()
    name = "/tensorflow/cc/saved_model/load_attempt_count"
    assert metrics.value(name) == 0
    metrics.loaded("/models/b/5", succeeded=True, seconds=1)
    assert metrics.value(name) == 1
    for _ in range(3):
        metrics.loaded("/models/a/3", succeeded=True, seconds=1)
    assert metrics.value(name) == 3
    metrics.loaded("/models/b/6", succeeded=True, seconds=1)
    assert metrics.value(name) == 3
    metrics.loaded("/models/a/3", succeeded=False, seconds=1)
    assert metrics.value(name) == 1
    assert metrics.value(name.replace("/", ":")) == metrics.value("/nope") == 0


def test_the_signature_that_runs_at_load_has_no_sample() -> None:
    metrics = Metrics()
    metrics.expect("m", {"serving_default": None, "__saved_model_init_op": None})
    page = metrics.text()
    assert ':nann:request_count{model_name="m",signature="serving_default",status="OK"} 0' in page
    assert "init_op" not in page

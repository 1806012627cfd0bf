"""The Kubernetes manifest of the documentation is valid for Kubernetes itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "clusters.md"


def test_the_manifest_fits_the_schemas_of_kubernetes() -> None:
    kubernetes = pytest.importorskip("kubernetes_validate", reason="needs the extra docs")
    yaml = pytest.importorskip("yaml", reason="needs the extra docs")
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    service, job = yaml.safe_load_all(block)
    for each in service, job:
        kubernetes.validate(each, kubernetes.latest_version(), strict=True)
    # What the schemas cannot know: the pods have the name that torchrun looks for.
    (container,) = job["spec"]["template"]["spec"]["containers"]
    name, subdomain = job["metadata"]["name"], job["spec"]["template"]["spec"]["subdomain"]
    assert f"--rdzv-endpoint={name}-0.{service['metadata']['name']}:29400" in container["command"]
    assert subdomain == service["metadata"]["name"] and service["spec"]["selector"] == {"job-name": name}
    assert {each["name"] for each in container["volumeMounts"]} == {
        v["name"] for v in job["spec"]["template"]["spec"]["volumes"]
    }

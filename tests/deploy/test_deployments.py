"""The files in deploy/ fit together, and what they call exists: checked without any of the tools."""

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from viewstamp.cli.failures import EXIT_CODES
from viewstamp.cli.full_parser import make_app
from viewstamp.runtime.config import ClusterConfig

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
KINDS = {
    "Service": "v1",
    "StatefulSet": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
}


def _objects() -> list[dict[str, Any]]:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    texts = [(BASE / name).read_text(encoding="utf-8") for name in listed]
    return [each for text in texts for each in yaml.safe_load_all(text)]


def _one(kind: str, name: str = "viewstamp") -> dict[str, Any]:
    (found,) = (each for each in _objects() if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def _flags(arguments: list[str]) -> dict[str, str]:
    """Return what `viewstamp serve` understands of a command line; it raises for what it does not."""
    command, bound, _ = make_app().parse_args(arguments, exit_on_error=False, print_error=False)
    assert command.__name__ == "serve"
    return {name: str(value) for name, value in bound.arguments.items()}


def test_every_object_is_of_the_kind_and_version_that_it_says() -> None:
    objects = _objects()
    assert {each["kind"] for each in objects} == set(KINDS)
    for each in objects:
        assert each["apiVersion"] == KINDS[each["kind"]]
        assert each["metadata"]["labels"] == {"app": "viewstamp"}


def test_members_find_each_other_before_they_are_ready_and_clients_only_ready_ones() -> None:
    members, clients = _one("Service")["spec"], _one("Service", "viewstamp-clients")["spec"]
    assert members["clusterIP"] == "None"
    assert members["publishNotReadyAddresses"] is True
    assert "publishNotReadyAddresses" not in clients
    pods = _one("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert members["selector"] == clients["selector"] == pods
    assert _one("StatefulSet")["spec"]["serviceName"] == _one("Service")["metadata"]["name"]


def test_the_cluster_file_has_the_pods_ordinals_as_ids_and_their_names_as_hosts() -> None:
    config = ClusterConfig.from_toml((BASE / "cluster.toml").read_bytes())
    stateful = _one("StatefulSet")
    name, service = stateful["metadata"]["name"], stateful["spec"]["serviceName"]
    assert list(config.node_ids) == list(range(stateful["spec"]["replicas"]))
    assert [m.host for m in config.members] == [f"{name}-{node}.{service}" for node in config.node_ids]
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    (node,) = container["env"]
    assert node["name"] == "VIEWSTAMP_NODE"
    assert "pod-index" in node["valueFrom"]["fieldRef"]["fieldPath"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {member.port for member in config.members} == {ports["members"]}


def test_probes_ask_what_they_may_act_upon() -> None:
    (container,) = _one("StatefulSet")["spec"]["template"]["spec"]["containers"]
    paths = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")
    }
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}
    assert {container[f"{kind}Probe"]["httpGet"]["port"] for kind in paths} == {"http"}
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 600


def test_one_pod_at_a_time_is_disturbed_and_no_two_share_a_machine() -> None:
    assert _one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    spec = _one("StatefulSet")["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    pod = spec["template"]["spec"]
    (rule,) = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["labelSelector"]["matchLabels"] == spec["selector"]["matchLabels"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    stops_s = 5 + 10 + 15  # stop_timeout_ms, stop_snapshot_timeout_ms, and the transfer before them
    assert pod["terminationGracePeriodSeconds"] > stops_s
    assert "viewstamp transfer" in pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]


def test_what_is_mounted_exists_and_what_is_served_lies_in_it() -> None:
    spec = _one("StatefulSet")["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    claims = {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
    assert set(mounts) == volumes | claims
    flags = _flags([*container["args"], "--node", "0"])
    assert flags["data"].startswith(mounts["data"] + "/")
    assert flags["cluster"].startswith(mounts["cluster"] + "/")


def test_compose_runs_a_member_of_its_cluster_file_for_each_service() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    config = ClusterConfig.from_toml((DEPLOY / "cluster.toml").read_bytes())
    assert {member.host: str(member.id) for member in config.members} == {
        name: service["environment"]["VIEWSTAMP_NODE"] for name, service in compose["services"].items()
    }
    for service in compose["services"].values():
        flags = _flags([*service["command"], "--node", "0"])
        assert flags["cluster"] == "/etc/viewstamp/cluster.toml"
        named = {volume.split(":")[0] for volume in service["volumes"] if not volume.startswith(".")}
        assert named <= set(compose["volumes"])


def _unit() -> dict[str, str]:
    lines = (DEPLOY / "viewstamp.service").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_the_unit_starts_a_server_and_is_the_one_that_is_printed() -> None:
    unit = _unit()
    program, *arguments = shlex.split(unit["ExecStart"])
    assert program.endswith("/viewstamp")
    assert _flags(arguments)["node"] == "1"
    assert unit["Type"] == "notify"
    codes = {int(code) for code in unit["RestartPreventExitStatus"].split()}
    assert codes <= set(EXIT_CODES)
    page = (ROOT / "docs" / "how-to" / "deploy-three-nodes.md").read_text(encoding="utf-8")
    assert (DEPLOY / "viewstamp.service").read_text(encoding="utf-8") in page


def test_the_image_runs_as_nobody_special_and_stops_by_the_signal_that_hands_over() -> None:
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    words = {line.split()[0] for line in lines if line and not line.startswith(("#", " "))}
    assert {"FROM", "USER", "VOLUME", "ENTRYPOINT", "STOPSIGNAL"} <= words
    user = next(line for line in lines if line.startswith("USER"))
    pod = _one("StatefulSet")["spec"]["template"]["spec"]["securityContext"]
    assert user == f"USER {pod['runAsUser']}:{pod['runAsGroup']}"
    extras = re.search(r"/src\[([a-z,]+)\]", "\n".join(lines))
    assert extras is not None
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"\n{extra} = [" in declared for extra in extras[1].split(","))


@pytest.mark.parametrize("page", ["run-in-kubernetes.md", "run-in-docker.md", "watch-a-cluster.md"])
def test_a_page_has_the_form_of_an_operation(page: str) -> None:
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    places = [text.find(f"**{part}") for part in ("Situation.", "What you do.", "What you see.", "What if ")]
    assert -1 not in places
    assert all(before < after for before, after in pairwise(places))

"""What KubeRay 1.6 and Kubernetes take in the fields that jobs/kuberay/ uses, strictly: an unknown field is an error.

The names and types are those of KubeRay's API reference (docs.ray.io, "KubeRay CRD API reference", v1.6) and of Kubernetes' core/v1. No package carries
the custom resource definitions, so the fields that we use are written down here; `kubectl apply --dry-run=server` checks against the whole of them.
"""

from __future__ import annotations

from typing import Any

STRING, BOOL = {"type": "string"}, {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|[KMGTPE]i?)?$"}


def one_of(*values: str) -> dict[str, Any]:
    """A string of a closed list."""
    return {"enum": list(values)}


def listed(items: dict[str, Any], least: int = 0) -> dict[str, Any]:
    """A list."""
    return {"type": "array", "items": items, "minItems": least}


def mapping(values: dict[str, Any]) -> dict[str, Any]:
    """An object with free keys."""
    return {"type": "object", "additionalProperties": values}


def fields(required: str = "", **known: dict[str, Any]) -> dict[str, Any]:
    """An object of known fields; `required` names those that must be there, apart by spaces."""
    return {"type": "object", "properties": known, "required": required.split(), "additionalProperties": False}


METADATA = fields("name", name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}, labels=mapping(STRING), namespace=STRING)
ENV = listed(fields("name value", name=STRING, value=STRING))
CONTAINER = fields(
    "name image", name=STRING, image=STRING, command=listed(STRING), args=listed(STRING), env=ENV,
    resources=fields(requests=mapping(QUANTITY), limits=mapping(QUANTITY)),
    volumeMounts=listed(fields("name mountPath", name=STRING, mountPath=STRING, readOnly=BOOL)),
)  # fmt: skip
VOLUME = fields(
    "name", name=STRING, persistentVolumeClaim=fields("claimName", claimName=STRING, readOnly=BOOL),
    emptyDir=fields(medium=one_of("", "Memory"), sizeLimit=QUANTITY),
)  # fmt: skip
NODE_SELECTOR_TERM = fields(
    matchExpressions=listed(
        fields("key operator", key=STRING, operator=one_of("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"), values=listed(STRING)), least=1
    )
)
AFFINITY = fields(
    nodeAffinity=fields(
        requiredDuringSchedulingIgnoredDuringExecution=fields("nodeSelectorTerms", nodeSelectorTerms=listed(NODE_SELECTOR_TERM, least=1)),
        preferredDuringSchedulingIgnoredDuringExecution=listed(
            fields("weight preference", weight={"type": "integer", "minimum": 1, "maximum": 100}, preference=NODE_SELECTOR_TERM)
        ),
    )
)
TOLERATION = fields(
    key=STRING,
    operator=one_of("Exists", "Equal"),
    value=STRING,
    effect=one_of("NoSchedule", "PreferNoSchedule", "NoExecute"),
    tolerationSeconds=COUNT,
)
POD = fields(
    "containers", containers=listed(CONTAINER, least=1), volumes=listed(VOLUME), tolerations=listed(TOLERATION), affinity=AFFINITY,
    terminationGracePeriodSeconds=COUNT, securityContext=fields(fsGroup=COUNT, runAsUser=COUNT),
)  # fmt: skip
TEMPLATE = fields("spec", metadata=fields(labels=mapping(STRING), annotations=mapping(STRING)), spec=POD)
START = mapping(STRING)
WORKERS = fields(
    "groupName minReplicas maxReplicas rayStartParams template", groupName=STRING, replicas=COUNT, minReplicas=COUNT, maxReplicas=COUNT,
    numOfHosts=COUNT, idleTimeoutSeconds=COUNT, priority=COUNT, labels=mapping(STRING), resources=mapping(STRING), rayStartParams=START, template=TEMPLATE,
)  # fmt: skip
CLUSTER_SPEC = fields(
    "headGroupSpec", rayVersion=STRING, authOptions=fields(mode=one_of("disabled", "token"), secretName=STRING), enableInTreeAutoscaling=BOOL,
    autoscalerOptions=fields(version=one_of("v1", "v2"), upscalingMode=one_of("Default", "Aggressive", "Conservative"), idleTimeoutSeconds=COUNT),
    headGroupSpec=fields("rayStartParams template", rayStartParams=START, template=TEMPLATE, serviceType=STRING), workerGroupSpecs=listed(WORKERS),
)  # fmt: skip
RAY_CLUSTER = fields("apiVersion kind metadata spec", apiVersion=one_of("ray.io/v1"), kind=one_of("RayCluster"), metadata=METADATA, spec=CLUSTER_SPEC)
RAY_JOB = fields(
    "apiVersion kind metadata spec", apiVersion=one_of("ray.io/v1"), kind=one_of("RayJob"), metadata=METADATA,
    spec=fields(
        "entrypoint rayClusterSpec", entrypoint=STRING, runtimeEnvYAML=STRING, submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
        shutdownAfterJobFinishes=BOOL, ttlSecondsAfterFinished=COUNT, activeDeadlineSeconds=COUNT, backoffLimit=COUNT, rayClusterSpec=CLUSTER_SPEC,
    ),
)  # fmt: skip
CLAIM = fields(
    "apiVersion kind metadata spec", apiVersion=one_of("v1"), kind=one_of("PersistentVolumeClaim"), metadata=METADATA,
    spec=fields(
        "accessModes resources", accessModes=listed(one_of("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"), least=1), storageClassName=STRING,
        resources=fields("requests", requests=mapping(QUANTITY)),
    ),
)  # fmt: skip

"""Ray's fake nodes with a folder each, as machines have: with one for all, every node's agent deletes a job's working folder and unpacks it anew."""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any
from unittest import mock

import ray._private.parameter
from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider


class Nodes(FakeMultiNodeProvider):
    """The fake provider; `folder` of its configuration, short, holds the nodes' folders."""

    def _create_node_with_resources_and_labels(self, *args: Any, **kwargs: Any) -> None:
        folder = tempfile.mkdtemp(prefix="a", dir=self.provider_config["folder"])
        with mock.patch.object(ray._private.parameter, "RayParams", partial(ray._private.parameter.RayParams, temp_dir=folder)):
            super()._create_node_with_resources_and_labels(*args, **kwargs)

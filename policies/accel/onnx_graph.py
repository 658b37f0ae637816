"""ONNX graphs of a sampler's loop: torch exports the parts, a Scan joins them.

A graph holds the weights once, whatever the number of steps; unrolled, the runtime would pack a copy of them for every
step. Nothing of the machine or the time gets into a graph: the same weights give the same bytes.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from policies.accel.loop import NUMBERS, Body
from policies.networks.base import Conditioning, Network
from robostack.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    import onnxruntime

OPSET = 20  # The first with Gelu.
LANES, STEPS = "lanes", "steps"
_STEP = "step_"
_OWN_WARNINGS = (r"`isinstance\(treespec, LeafSpec\)` is deprecated",)
_LARGEST = 1_900_000_000  # bytes of weights: a protobuf message ends at 2 GiB


def require_onnx() -> None:
    """Raise MissingExtra unless graphs can be made and run."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "onnx")


def lanes(axis: int = 0) -> dict[int, Any]:
    """Says that an axis of a tensor counts lanes."""
    return {axis: torch.export.Dim(LANES)}


def observed_names(observed: Conditioning) -> list[str]:
    """Names of a condition's tensors in a graph."""
    return [f"observed_{i}" for i in range(len(observed))]


def level_names(level: Conditioning) -> list[str]:
    """Names of a level's tensors, stacked over the steps."""
    return [f"level_{i}" for i in range(len(level))]


def exported(module: nn.Module, args: tuple, dynamic: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """One part as an ``onnx.ModelProto``.

    Args:
        module: takes and returns tensors, and tuples of them.
        args: example inputs, of more than one lane.
        dynamic: nested as ``args``: per tensor ``lanes(axis)``, or None for fixed sizes.
        inputs, outputs: names of all tensors in their order.
    """
    with torch.inference_mode(False), torch.no_grad(), _quiet():
        program = torch.onnx.export(
            torch.export.export(module.eval(), args, dynamic_shapes=dynamic), input_names=list(inputs),
            output_names=list(outputs), opset_version=OPSET, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    assert not model.functions, [f.name for f in model.functions]
    return model


def exported_body(net: Network, actions: tuple[int, int], observed: Conditioning, axes: Sequence[int]) -> Any:
    """A step of the loop as a part.

    Args:
        net: the network.
        actions: (T, Da).
        observed: what it makes of an example condition.
        axes: the axis of each of these tensors that counts lanes.
    """
    with torch.inference_mode(False), torch.no_grad():
        level = net.level(torch.tensor([0]))
    chunk = torch.zeros(observed[0].shape[axes[0]], *actions)
    args = (chunk, chunk.clone(), torch.ones(NUMBERS), chunk.clone(), level, observed)
    dynamic = (lanes(), lanes(), None, lanes(), (None,) * len(level), tuple(map(lanes, axes)))
    own = ["x", "before", "numbers", "noise", *level_names(level)]
    names = [*(_STEP + name for name in own), *observed_names(observed)]
    return exported(Body(net), args, dynamic, names, ["step_chunk", "step_estimate"])


def lanes_axes(two: Conditioning, three: Conditioning) -> list[int]:
    """The axis of each tensor that counts lanes, from those of two and of three lanes."""
    pairs = zip(two, three, strict=True)
    return [next(i for i, (a, b) in enumerate(zip(u.shape, v.shape, strict=True)) if a != b) for u, v in pairs]


def joined(
    first: Any, body: Any, last: Any | None, *, start: str, constants: Mapping[str, np.ndarray], drawn: bool
) -> bytes:
    """The whole graph: ``first`` once, ``body`` for every step, ``last`` once.

    Parts are joined by the names of their inputs and outputs: the first one makes ``before``, the estimate before the
    first step, and what the body observes; the loop makes ``chunk``. What the body takes per step, ``step_level_0`` for
    example, is ``level_0`` of the graph with a leading axis of steps: an input, or one of the constants.

    Args:
        first, body, last: parts.
        start: the input that the loop begins with.
        constants: by name; what is missing becomes an input.
        drawn: whether each step has noise, as an input.
    """
    from onnx import checker, helper, numpy_helper

    per_step = [value for value in body.graph.input if value.name.startswith(_STEP)]
    carried, scanned = per_step[:2], per_step[2:]
    known = {}
    if not drawn:
        scanned = [value for value in scanned if value.name != f"{_STEP}noise"]
        known = {f"{_STEP}noise": "before"}  # zeros
    loop = helper.make_graph(
        _nodes(body, "body/", known), "step", [_value(value.name, value) for value in (*carried, *scanned)],
        [_value(value.name, like) for value, like in zip(body.graph.output, carried, strict=True)],
        _weights(body, "body/"),
    )  # fmt: skip
    outside = [value.name.removeprefix(_STEP) for value in scanned]
    scan = helper.make_node(
        "Scan", [start, "before", *outside], ["chunk", "estimate"], "loop", body=loop, num_scan_inputs=len(scanned)
    )
    nodes, weights = [*_nodes(first, "first/", {}), scan], _weights(first, "first/")
    outputs = [_value("chunk", carried[0])]
    if last is not None:
        nodes, weights = [*nodes, *_nodes(last, "last/", {})], [*weights, *_weights(last, "last/")]
        outputs = [_value(value.name, value) for value in last.graph.output]
    per_step_inputs = [
        _value(name, value, STEPS) for name, value in zip(outside, scanned, strict=True) if name not in constants
    ]
    weights += [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in constants.items()]
    once = [_value(value.name, value) for value in first.graph.input]
    graph = helper.make_graph(nodes, "decision", [*once, *per_step_inputs], outputs, weights)
    model = helper.make_model(
        graph, producer_name="robostack", ir_version=body.ir_version, opset_imports=list(body.opset_import)
    )
    checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def _nodes(part: Any, prefix: str, known: Mapping[str, str]) -> list[Any]:
    """Nodes with names of their own, except for the part's inputs and outputs."""
    open_names = {value.name for value in (*part.graph.input, *part.graph.output)}

    def renamed(name: str) -> str:
        return known.get(name, name) if not name or name in open_names else prefix + name

    nodes = []
    for index, old in enumerate(part.graph.node):
        node = type(old)()
        node.CopyFrom(old)
        node.name, node.doc_string = f"{prefix}{index}", ""
        del node.metadata_props[:]  # Stack traces, with paths of this machine.
        node.input[:] = [renamed(name) for name in old.input]
        node.output[:] = [renamed(name) for name in old.output]
        nodes.append(node)
    return nodes


def _weights(part: Any, prefix: str) -> list[Any]:
    weights = []
    for old in part.graph.initializer:
        weight = type(old)()
        weight.CopyFrom(old)
        weight.name, weight.doc_string = prefix + old.name, ""
        del weight.metadata_props[:]
        weights.append(weight)
    return weights


def _value(name: str, like: Any, leading: str | None = None) -> Any:
    """A tensor of the graph with the type of another, and one axis more where named."""
    from onnx import helper

    kind = like.type.tensor_type
    sizes = [LANES if d.dim_param else d.dim_value for d in kind.shape.dim]
    return helper.make_tensor_value_info(name, kind.elem_type, sizes if leading is None else [leading, *sizes])


@contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporter warns of its own dependencies, and logs what it does."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        for message in _OWN_WARNINGS:
            warnings.filterwarnings("ignore", message)
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def open_session(model: bytes, threads: int, count: int | None = None) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU with so many threads; for one number of lanes where it is given."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    options.use_deterministic_compute = True
    if count is not None:
        options.add_free_dimension_override_by_name(LANES, count)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def check_size(module: nn.Module) -> None:
    """Raise ConfigError for weights that do not fit into one file."""
    size = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    if size > _LARGEST:
        raise ConfigError(
            f"the weights ({size / 1e9:.1f} GB) do not fit into an ONNX graph of 2 GB: use accelerate=none"
        )

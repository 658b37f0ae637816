"""ONNX graphs of a sampler's loop: torch exports one step, and what does not depend on the step moves out of the loop.

The loop is a Scan: a graph holds the weights once, whatever the number of steps; unrolled, the runtime would pack a
copy of them for every step. Nothing of the machine or the time gets into a graph: the same weights give the same bytes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from policies.accel.loop import NUMBERS, Body, quiet
from policies.networks.base import Conditioning, Network
from robostack.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    import onnxruntime

OPSET = 20  # the first with Gelu
LANES, STEPS = "lanes", "steps"
_STEP = "step_"
_LARGEST = 1_900_000_000  # bytes of weights: a protobuf message ends at 2 GiB


def require_onnx(net: nn.Module) -> None:
    """Raise MissingExtra unless graphs can be made and run, ConfigError where the weights do not fit into one."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "onnx")
    size = sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))
    if size > _LARGEST:
        raise ConfigError(
            f"the weights ({size / 1e9:.1f} GB) do not fit into an ONNX graph of 2 GB: use accelerate=none"
        )


def level_names(level: Conditioning) -> list[str]:
    """Names of a level's tensors, stacked over the steps."""
    return [f"level_{i}" for i in range(len(level))]


class _Step(nn.Module):
    def __init__(self, net: Network, observe: Callable[..., Conditioning]):
        super().__init__()
        self.body, self.observe = Body(net), observe

    def forward(
        self, x: Tensor, before: Tensor, numbers: Tensor, noise: Tensor, level: Conditioning, *seen: Tensor
    ) -> tuple[Tensor, Tensor]:
        return self.body(x, before, numbers, noise, level, self.observe(*seen))


def exported_step(net: Network, observe: Callable[..., Conditioning], x: Tensor, seen: Mapping[str, Tensor]) -> Any:
    """A step of the loop as an ``onnx.ModelProto``, with all that it is made from.

    Args:
        net: the network.
        observe: what it makes of what is seen, a module.
        x: an example chunk, of more than one lane.
        seen: example inputs of ``observe`` by name, likewise.
    """
    with torch.inference_mode(False), torch.no_grad():
        level = net.level(torch.tensor([0]))
    args = (x, x.clone(), torch.ones(NUMBERS), x.clone(), level, *seen.values())
    own = ["x", "before", "numbers", "noise", *level_names(level)]
    dynamic = (_lanes(), _lanes(), None, _lanes(), (None,) * len(level), (_lanes(),) * len(seen))
    return exported(_Step(net, observe), args, dynamic, [*(_STEP + n for n in own), *seen], [_STEP + "chunk", "x0"])


def exported(
    module: nn.Module, args: tuple, dynamic: tuple | None, inputs: Sequence[str], outputs: Sequence[str]
) -> Any:
    """A module as an ``onnx.ModelProto``; by default, the first axis of all its tensors counts lanes."""
    dynamic = (_lanes(),) * len(args) if dynamic is None else dynamic
    with torch.inference_mode(False), torch.no_grad(), quiet():
        program = torch.onnx.export(
            torch.export.export(module.eval(), args, dynamic_shapes=dynamic),
            input_names=list(inputs), output_names=list(outputs), opset_version=OPSET, verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    assert not model.functions, [f.name for f in model.functions]
    return model


def _lanes() -> dict[int, Any]:
    return {0: torch.export.Dim(LANES)}


def looped(step: Any, last: Any | None, *, start: str, constants: Mapping[str, np.ndarray], drawn: bool) -> bytes:
    """The whole graph: what a step does not change once, the rest of it for every step, ``last`` once.

    What a step takes as ``step_level_0``, for example, is ``level_0`` of the graph with a leading axis of steps.

    Args:
        step: of ``exported_step``.
        last: what follows on ``chunk``, the result of the loop; None for nothing.
        start: the input that the loop begins with.
        constants: inputs with known values, by name.
        drawn: whether each step has noise, as an input.
    """
    from onnx import checker, helper, numpy_helper

    carried = [value for value in step.graph.input if value.name in (f"{_STEP}x", f"{_STEP}before")]
    known = {} if drawn else {f"{_STEP}noise": "zeros"}
    scanned = [v for v in step.graph.input if v.name.startswith(_STEP) and v not in carried and v.name not in known]
    once, every = _parted(_part(step, "step/", known), {value.name for value in (*carried, *scanned)})
    body = helper.make_graph(
        every.nodes, "step", [_value(value.name, value) for value in (*carried, *scanned)],
        [_value(out.name, like) for out, like in zip(step.graph.output, carried, strict=True)], every.weights,
    )  # fmt: skip
    sources = {value.name.removeprefix(_STEP): value for value in scanned}
    after = _Part([], []) if last is None else _part(last, "last/", {})
    nodes = [
        helper.make_node("Shape", [start], ["shape"], "shape"),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"], "zeros"),  # what there is before the first step
        *once.nodes,
        helper.make_node(
            "Scan", [start, "zeros", *sources], ["chunk", "estimate"], "loop", body=body, num_scan_inputs=len(scanned)
        ),
        *after.nodes,
    ]
    inputs = [
        _value(start, carried[0]),
        *(_value(value.name, value) for value in step.graph.input if not value.name.startswith(_STEP)),
        *(_value(name, value, STEPS) for name, value in sources.items() if name not in constants),
    ]
    outputs = [_value("chunk", carried[0])] if last is None else [_value(v.name, v) for v in last.graph.output]
    given = [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "decision", inputs, outputs, [*once.weights, *after.weights, *given])
    model = helper.make_model(
        graph, producer_name="robostack", ir_version=step.ir_version, opset_imports=list(step.opset_import)
    )
    checker.check_model(model)
    return model.SerializeToString(deterministic=True)


@dataclass(frozen=True)
class _Part:
    nodes: list[Any]
    weights: list[Any]


def _part(model: Any, prefix: str, known: Mapping[str, str]) -> _Part:
    """Nodes and weights of a model under names of their own, except for its inputs and outputs."""
    open_names = {value.name for value in (*model.graph.input, *model.graph.output)}

    def name_of(name: str) -> str:
        return known.get(name, name) if not name or name in open_names else prefix + name

    part = _Part([], [])
    for index, old in enumerate(model.graph.node):
        node = _bare(old, f"{prefix}{index}")
        node.input[:] = [name_of(name) for name in old.input]
        node.output[:] = [name_of(name) for name in old.output]
        part.nodes.append(node)
    part.weights.extend(_bare(old, name_of(old.name)) for old in model.graph.initializer)
    return part


def _bare(old: Any, name: str) -> Any:
    """A copy without stack traces, which hold paths of this machine."""
    new = type(old)()
    new.CopyFrom(old)
    new.name, new.doc_string = name, ""
    del new.metadata_props[:]
    return new


def _parted(part: _Part, moving: set[str]) -> tuple[_Part, _Part]:
    """What does not depend on the names ``moving``, and what does; each with the constants that it uses."""
    once, every, moving = [], [], set(moving)
    for node in part.nodes:
        if moving.intersection(node.input):
            every.append(node)
            moving.update(node.output)
        else:
            once.append(node)
    used = {name for node in every for name in node.input}
    constants = [node for node in once if not node.input and node.output[0] in used]
    weights = [weight for weight in part.weights if weight.name in used]
    inside = {name: f"loop/{name}" for name in (*(n.output[0] for n in constants), *(w.name for w in weights))}
    constants = [_bare(node, inside[node.output[0]]) for node in constants]
    for node in constants:
        node.output[:] = [node.name]
    for node in every:
        node.input[:] = [inside.get(name, name) for name in node.input]
    outside = {name for node in once for name in node.input}
    return (
        _Part(once, [weight for weight in part.weights if weight.name in outside]),
        _Part([*constants, *every], [_bare(weight, inside[weight.name]) for weight in weights]),
    )


def _value(name: str, like: Any, leading: str | None = None) -> Any:
    """A tensor of the graph with the type of another, and one axis more where named."""
    from onnx import helper

    kind = like.type.tensor_type
    sizes = [LANES if d.dim_param else d.dim_value for d in kind.shape.dim]
    return helper.make_tensor_value_info(name, kind.elem_type, sizes if leading is None else [leading, *sizes])


def open_session(model: bytes, threads: int, count: int | None = None) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the CPU with so many threads; for one number of lanes where it is given."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # Cores are the robot's between decisions.
    if count is not None:
        options.add_free_dimension_override_by_name(LANES, count)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

"""What an exported graph must not carry, and the names that it should."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence

import onnx_ir as ir

_SCOPES = "pkg.torch.onnx.name_scopes"
# What torch writes where an operation belongs to no module.
_NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"


def name_by_module(model: ir.Model, parameters: Mapping[int, str], *, prefix: str = "") -> None:
    """Name nodes after the module that made them and weights after the parameter they hold.

    `parameters` maps the memory address of each PyTorch parameter to its name: torch.onnx folds
    transposed weights into views called `val_127`. Patterns over names are how people exclude
    layers from quantization. `prefix` is cut off the front of every name. Call it before
    `strip_metadata`.
    """
    used: Counter[str] = Counter()
    for node in model.graph:
        scope = _scope(node, prefix)
        name = f"{scope}/{node.op_type}"
        used[name] += 1
        node.name = name if used[name] == 1 else f"{name}_{used[name] - 1}"
    taken: set[str] = {value.name or "" for value in model.graph.inputs}
    for old, value in list(model.graph.initializers.items()):
        name = parameters.get(address(value), old).removeprefix(prefix)
        if name == old or name in taken or name in model.graph.initializers:
            taken.add(old)
            continue
        taken.add(name)
        model.graph.initializers.pop(old)
        value.name = name
        model.graph.initializers[name] = value


def _scope(node: ir.Node, prefix: str) -> str:
    try:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    except (ValueError, SyntaxError):
        scopes = []
    # The last entry is the operation itself.
    path = str(scopes[-2]) if len(scopes) > 1 and scopes[-2] != _NO_MODULE else ""
    path = f"{path}.".removeprefix(prefix).rstrip(".")
    return "/" + path.replace(".", "/") if path else ""


def address(value: ir.Value) -> int:
    """The memory address of an initializer's data, or 0 where it has none."""
    if value.const_value is None:
        return 0
    # numpy() wraps the memory of torch tensors and views without a copy.
    return int(value.const_value.numpy().ctypes.data)


def strip_metadata(model: ir.Model) -> None:
    """Remove build paths, stack traces and everything else that only the exporter understands."""
    model.metadata_props.clear()
    model.doc_string = None
    for graph in (model.graph, *model.graph.subgraphs()):
        graph.metadata_props.clear()
        graph.doc_string = None
        for value in (*graph.inputs, *graph.outputs, *graph.initializers.values()):
            _bare(value)
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                _bare(value)


def _bare(value: ir.Value) -> None:
    value.metadata_props.clear()
    value.doc_string = None


def order_interface(
    model: ir.Model, inputs: Sequence[str], outputs: Sequence[str], *, drop_unused: bool
) -> tuple[str, ...]:
    """Put inputs and outputs into the given order; the inputs that are left.

    With `drop_unused` an input that no node reads goes away (token types of a model without type
    embeddings). Raises KeyError for an output that the graph does not have.
    """
    graph = model.graph
    by_name = {value.name: value for value in graph.inputs}
    kept = [
        by_name[name]
        for name in inputs
        if name in by_name and (not drop_unused or _read(by_name[name], graph))
    ]
    graph.inputs.clear()
    graph.inputs.extend(kept)
    results = {value.name: value for value in graph.outputs}
    ordered = [results[name] for name in outputs]
    graph.outputs.clear()
    graph.outputs.extend(ordered)
    return tuple(value.name or "" for value in kept)


def _read(value: ir.Value, graph: ir.Graph) -> bool:
    return bool(value.uses()) or any(value is output for output in graph.outputs)


def share_weights(model: ir.Model) -> int:
    """Make one initializer of those that hold the same memory; the number of copies avoided.

    A tied weight arrives twice: under two names, or once as it is and once as the transposed view
    that the optimiser folded. The second becomes a Transpose of the first.
    """
    graph = model.graph
    groups: dict[tuple[int, str], list[ir.Value]] = {}
    for value in graph.initializers.values():
        if value.const_value is not None and value.const_value.nbytes > 1024:
            groups.setdefault((address(value), str(value.dtype)), []).append(value)
    avoided = 0
    for values in groups.values():
        values.sort(key=_turned)
        kept = [values[0]]
        for value in values[1:]:
            avoided += _replace(graph, kept, value)
    return avoided


def _turned(value: ir.Value) -> tuple[bool, bool]:
    """Sorts weights as they lie in PyTorch before turned views, and named ones before others."""
    assert value.const_value is not None
    turned = not value.const_value.numpy().flags.c_contiguous
    return turned, (value.name or "").startswith("val_")


def _replace(graph: ir.Graph, kept: list[ir.Value], value: ir.Value) -> int:
    assert value.const_value is not None
    array = value.const_value.numpy()
    for other in kept:
        assert other.const_value is not None
        base = other.const_value.numpy()
        if base.shape == array.shape and base.strides == array.strides:
            replacement = other
            break
        turned = base.T
        if base.ndim == 2 and turned.shape == array.shape and turned.strides == array.strides:
            replacement = _transposed(graph, other, value)
            break
    else:
        kept.append(value)
        return 0
    ir.convenience.replace_all_uses_with(value, replacement, replace_graph_outputs=True)
    graph.initializers.pop(value.name or "")
    return 1


def _transposed(graph: ir.Graph, base: ir.Value, value: ir.Value) -> ir.Value:
    node = ir.node("Transpose", [base], {"perm": [1, 0]}, name=f"{base.name}/Transpose")
    output = node.outputs[0]
    output.name = f"{base.name}_transposed"
    output.shape, output.type = ir.Shape(list(value.shape or ())), value.type
    first = next(iter(graph), None)
    if first is None:
        graph.append(node)
    else:
        graph.insert_before(first, node)
    return output

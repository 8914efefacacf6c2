"""A decoder's cache as state of OpenVINO's infer requests: it never crosses into Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import BundleCorrupt, SessionError
from edgekit.core.manifest import Component, TensorSpec
from edgekit.runtime.caches import cache_pairs
from edgekit.runtime.session import Array, contiguous

if TYPE_CHECKING:
    from types import ModuleType

    import openvino as ov

# The input that says which rows of the state a step goes on with, as OpenVINO GenAI calls it.
ROWS = "beam_idx"


class States:
    """The names of a component's states, and its requests fed and read through them."""

    def __init__(self, ov: ModuleType, component: Component) -> None:
        self._ov = ov
        self.pairs = cache_pairs(component.inputs, component.outputs)
        self.inputs = {spec.name for spec, _ in self.pairs}
        self.outputs = {present: spec.name for spec, present in self.pairs}

    def prepare(self, model: ov.Model) -> None:
        """Turn the pairs of inputs and outputs into states. Raises BundleCorrupt.

        Each state is gathered by `ROWS` before it is read, and begins empty with as many rows: the
        form in which OpenVINO's plugins keep keys and values in place.
        """
        opset = self._ov.opset13
        held = {name: port for port in model.inputs for name in port.get_names()}
        made = {name for port in model.outputs for name in port.get_names()}
        wrong = [spec.name for spec, present in self.pairs if spec.name not in held]
        wrong += [present for _, present in self.pairs if present not in made]
        if wrong:
            raise BundleCorrupt(
                f"The manifest names {wrong[0]}, which the graph does not have.",
                hint="Export the bundle again.",
            )
        self._unpack(model)
        rows = opset.parameter([-1], np.int32, name=ROWS)
        rows.output(0).get_tensor().add_names({ROWS})
        axis = opset.constant(0, np.int32)
        for spec, _ in self.pairs:
            source = held[spec.name].get_node().output(0)
            targets = source.get_target_inputs()
            gathered = opset.gather(source, rows, axis)
            for target in targets:
                target.replace_source_output(gathered.output(0))
        model.add_parameters([rows])
        model.validate_nodes_and_infer_types()
        # Without this the first step would find states of no rows.
        shapes = {spec.name: spec for spec, _ in self.pairs}
        types = {name: port.get_element_type() for name, port in held.items()}
        ends = {name: port for port in model.outputs for name in port.get_names()}
        passes = import_module("openvino.passes")
        manager = passes.Manager()
        manager.register_pass(
            passes.MakeStateful(
                [(held[spec.name].get_node(), ends[out].get_node()) for spec, out in self.pairs]
            )
        )
        manager.run_passes(model)
        batch = opset.shape_of(rows, "i32")
        for node in model.get_ops():
            if node.get_type_name() == "ReadValue":
                spec = shapes[_past_name(node.get_variable_id(), shapes)]
                sizes = [size if isinstance(size, int) else 0 for size in spec.shape[1:]]
                shape = opset.concat([batch, opset.constant(sizes, np.int32)], 0)
                zero = opset.constant(0, types[spec.name])
                node.set_arguments([opset.broadcast(zero, shape).output(0)])
        model.validate_nodes_and_infer_types()

    def _unpack(self, model: ov.Model) -> None:
        """Give attention its heads back where queries that share keys were stacked up.

        Stacked they are `[batch, key heads, queries of all, size]` under a mask repeated as often,
        which is the fastest form without state; OpenVINO's attention with a state takes as many
        queries as there are new keys, and finds out by itself which heads share them.
        """
        opset = self._ov.opset13
        for node in model.get_ops():
            if node.get_type_name() != "ScaledDotProductAttention" or node.get_input_size() < 4:
                continue
            query, key, value, mask, *scale = node.input_values()
            stacked, tiled = query.get_node(), mask.get_node()
            if stacked.get_type_name() != "Reshape" or tiled.get_type_name() != "Tile":
                continue
            repeats = tiled.input_value(1).get_node()
            if repeats.get_type_name() == "Convert":
                repeats = repeats.input_value(0).get_node()
            if repeats.get_type_name() != "Constant":
                continue
            times = [int(number) for number in repeats.get_data().ravel()]
            heads, size = key.get_partial_shape()[1], key.get_partial_shape()[3]
            if len(times) != 4 or times[:2] + times[3:] != [1, 1, 1] or heads.is_dynamic:
                continue
            shape = [0, heads.get_length() * times[2], -1, size.get_length()]
            ones = np.ones((1, 1, times[2], 1, 1), dtype=key.get_element_type().to_dtype())
            shared = [
                opset.reshape(
                    opset.multiply(
                        opset.unsqueeze(source, opset.constant(2, np.int64)),
                        opset.constant(ones),
                    ),
                    opset.constant(shape, np.int64),
                    True,
                )
                for source in (key, value)
            ]
            apart = opset.scaled_dot_product_attention(
                stacked.input_value(0), *shared, tiled.input_value(0), *scale, causal=False
            )
            node.output(0).replace(apart.output(0))

    def fill(self, request: ov.InferRequest, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Begin a run on its own from the caches among some feeds; the other feeds, and `ROWS`."""
        rest = {name: array for name, array in feeds.items() if name not in self.inputs}
        request.reset_state()
        for state in request.query_state():
            past = feeds[_past_name(state.name, self.inputs)]
            if past.size:
                state.state = self._ov.Tensor(contiguous(past))
        rest[ROWS] = np.arange(_batch(feeds), dtype=np.int32)
        return rest

    def read(self, request: ov.InferRequest) -> dict[str, Array]:
        """The caches after a run, by the names of the outputs that they were."""
        found = {
            _past_name(state.name, self.inputs): np.array(state.state.data)
            for state in request.query_state()
        }
        return {present: found[name] for present, name in self.outputs.items()}


def short_reason(error: Exception) -> str:
    """The last line that says something: above it stand the paths of OpenVINO's own sources."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[-1]


def _past_name(variable: str, names: Mapping[str, TensorSpec] | set[str]) -> str:
    """The input that a state was: its own name is made of the input's and the output's."""
    return max((name for name in names if variable.startswith(name)), key=len)


def _batch(feeds: Mapping[str, Array]) -> int:
    return len(next(iter(feeds.values())))


class OpenVinoDecoding:
    """See `edgekit.runtime.caches.Decoding`: an infer request of its own, whose state goes on.

    ``give_back`` takes the request when it is no longer needed; ``is_closed`` says whether the
    session that it came from was closed.
    """

    def __init__(
        self,
        module: ModuleType,
        request: ov.InferRequest,
        batch: int,
        given: Mapping[str, Array],
        first: int,
        give_back: Callable[[ov.InferRequest], None],
        is_closed: Callable[[], bool],
    ) -> None:
        self._request: ov.InferRequest | None = request
        self._first = first
        self._give_back = give_back
        self._is_closed = is_closed
        self._kept = {name: contiguous(array) for name, array in given.items()}
        self._same = np.arange(batch, dtype=np.int32)
        self._rows = self._same
        request.reset_state()
        for name, array in self._kept.items():
            request.set_tensor(name, module.Tensor(array, shared_memory=True))

    def step(self, feeds: Mapping[str, Array]) -> Array:
        """See `edgekit.runtime.caches.Decoding.step`."""
        if self._is_closed():
            self.close()
            raise SessionError("The session is closed.", hint="Load the bundle again.")
        request = self._request
        if request is None:
            raise SessionError("The decoding is closed.", hint="Begin another one.")
        try:
            request.infer({**feeds, ROWS: self._rows}, share_inputs=True, share_outputs=True)
        except Exception as error:
            raise SessionError(
                f"OpenVINO could not run the graph: {short_reason(error)}"
            ) from error
        self._rows = self._same
        answer: Array = request.get_output_tensor(self._first).data
        return answer

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """See `edgekit.runtime.caches.Decoding.reorder`."""
        # Two in a row are one: the second picks among the rows of the first.
        self._rows = self._rows[rows]

    def close(self) -> None:
        """See `edgekit.runtime.caches.Decoding.close`."""
        request, self._request = self._request, None
        if request is not None:
            request.reset_state()
            self._give_back(request)

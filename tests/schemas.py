"""The published schemas, and results that are held to them."""

from __future__ import annotations

import json
from importlib.resources import files

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

SCHEMAS = Registry().with_resources(
    (name, Resource.from_contents(json.loads((files("edgekit.core") / name).read_text("utf-8"))))
    for name in (
        f"{verb}.schema.json" for verb in ("build", "prune", "quantize", "validate", "bench")
    )
)


def check_schema_of(verb: str, value: object) -> None:
    """Hold the result of a verb to its schema."""
    schema = SCHEMAS.contents(f"{verb}.schema.json")
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema, registry=SCHEMAS).validate(value)

"""The contract is a valid document, and its examples are what its schemas say."""

from typing import Any

import pytest
from contract_suite import DOCUMENT, errors_of
from openapi_spec_validator import OpenAPIV31SpecValidator


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def examples(node: Any, at: str = "") -> list[tuple[str, Any, Any]]:
    """Each example of a media type or schema: where it is, its schema, its value."""
    found = []
    if isinstance(node, dict):
        if "schema" in node and "examples" in node:
            for name, example in node["examples"].items():
                value = resolved(example)["value"]
                found.append((f"{at}/{name}", node["schema"], value))
        elif "examples" in node and isinstance(node["examples"], list):
            schema = {name: member for name, member in node.items() if name != "examples"}
            found += [(f"{at}/{index}", schema, value) for index, value in enumerate(node["examples"])]
        for name, member in node.items():
            found += examples(member, f"{at}/{name}")
    elif isinstance(node, list):
        for index, member in enumerate(node):
            found += examples(member, f"{at}/{index}")
    return found


def resolved(node: Any) -> Any:
    """What a reference within the document refers to."""
    if "$ref" not in node:
        return node
    target = DOCUMENT
    for name in node["$ref"].removeprefix("#/").split("/"):
        target = target[name]
    return target


EXAMPLES = examples(DOCUMENT)


@pytest.mark.parametrize(("schema", "value"), [entry[1:] for entry in EXAMPLES], ids=[entry[0] for entry in EXAMPLES])
def test_each_example_is_what_its_schema_says(schema: Any, value: Any) -> None:
    assert errors_of(schema, value) == []


def test_all_schemas_and_examples_are_used() -> None:
    text = str(DOCUMENT)
    described_only = {"GrantClaims", "DecisionClaims"}
    for kind in ("schemas", "examples", "responses", "parameters"):
        for name in DOCUMENT["components"][kind]:
            assert name in described_only or f"'#/components/{kind}/{name}'" in text, name

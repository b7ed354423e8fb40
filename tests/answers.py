"""Answers in JSON, held against storagectl/schemas/output-1.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

if TYPE_CHECKING:
    from inprocess import Answer

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((ROOT / "storagectl/schemas/output-1.json").read_text())


def strict(schema: Any) -> Any:
    """Return a schema in which an object has no members but those that are named."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(part) for name, part in schema.items()}
    if found.get("type") == "object" and "properties" in found:
        found["additionalProperties"] = False
    return found


VALIDATORS = [jsonschema.Draft202012Validator(made) for made in (SCHEMA, strict(SCHEMA))]


def check(document: Any) -> None:
    """Raise for a document that is not as the schema says, or has what that doesn't tell of."""
    for validator in VALIDATORS:
        error = jsonschema.exceptions.best_match(validator.iter_errors(document))
        assert error is None, f"{error.json_path}: {error.message}\n{document}"


def document_of(answer: Answer) -> Any:
    """Return the one document that was printed."""
    assert answer.stdout.count("\n") == 1, answer.stdout
    document = json.loads(answer.stdout)
    check(document)
    assert document["ok"] == (answer.status == 0)
    return document

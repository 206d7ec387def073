"""``docs/openapi.yaml``, to hold answers against: strictly, so that no key is undescribed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

import uploaderd

FILE = Path(uploaderd.__file__).parent.parent / "docs" / "openapi.yaml"
NAME = "urn:uploaderd"
# Described for others to be built upon; closed it would refuse what they add.
OPEN = "FileFacts"

Node = Any  # of a YAML document


def load() -> dict[str, Node]:
    """The description as it is written."""
    loaded: dict[str, Node] = yaml.safe_load(FILE.read_text("utf-8"))
    return loaded


def _closed(node: Node) -> Node:
    """The same, but that an object has no other keys than those described."""
    if isinstance(node, list):
        return [_closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    closed = {name: _closed(one) for name, one in node.items()}
    if isinstance(node.get("properties"), dict) or isinstance(node.get("allOf"), list):
        closed.setdefault("unevaluatedProperties", False)
    return closed


class Description:
    """The description, ready to judge by."""

    def __init__(self) -> None:
        self.document = load()
        strict = copy.deepcopy(self.document)
        schemas = strict["components"]["schemas"]
        for name, schema in schemas.items():
            if name == OPEN:
                schemas[name] = {**_closed(schema)}
                schemas[name].pop("unevaluatedProperties")
            else:
                schemas[name] = _closed(schema)
        self._strict = strict
        resource: Resource[Any] = Resource.from_contents(strict, default_specification=DRAFT202012)
        self._registry: Registry[Any] = Registry().with_resource(NAME, resource)

    def calls(self) -> set[tuple[str, str]]:
        """Every method and path that is described."""
        return {
            (method.upper(), path)
            for path, item in self.document["paths"].items()
            for method in item
            if method != "parameters"
        }

    def check(self, document: object, schema: str) -> None:
        """Fail unless a document is what the schema of that name says, and no more."""
        self._judge(document, {"$ref": f"{NAME}#/components/schemas/{schema}"}, schema)

    def check_answer(
        self, method: str, path: str, status: int, media_type: str, document: object
    ) -> None:
        """Fail unless a call may be answered so.

        Args:
            method: such as GET.
            path: as it is described, such as ``/v1/files/{id}``.
            status: of the answer.
            media_type: of the answer.
            document: the answer.
        """
        what = f"{method} {path} -> {status} {media_type}"
        answers = self._strict["paths"][path][method.lower()]["responses"]
        assert str(status) in answers, f"{what} is not described"
        answer = answers[str(status)]
        if "$ref" in answer:
            answer = self._strict["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        assert media_type in answer["content"], f"{what} is not described"
        schema = answer["content"][media_type]["schema"]
        self._judge(document, _absolute(schema), what)

    def events(self) -> dict[str, str]:
        """Each event of the stream, and the schema of its data."""
        stream = self.document["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]
        told = stream["text/event-stream"]["x-events"]
        return {name: schema["$ref"].rpartition("/")[2] for name, schema in told.items()}

    def _judge(self, document: object, schema: dict[str, Node], what: str) -> None:
        validator = Draft202012Validator(
            schema, registry=self._registry, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        wrong = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
        assert not wrong, f"{what}:\n" + "\n".join(wrong) + f"\n{document}"


def _absolute(schema: dict[str, Node]) -> dict[str, Node]:
    if "$ref" in schema:
        return {**schema, "$ref": NAME + schema["$ref"]}
    return schema

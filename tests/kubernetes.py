"""deploy/kubernetes against the published schemas of Kubernetes, strictly: `make check-kubernetes`.

KEDA's kinds are held against its definitions where a file with them is given: `CRDS=crds.yaml`, made on the cluster by
`kubectl get crd scaledobjects.keda.sh triggerauthentications.keda.sh -o yaml`, or a release's own. What has no schema here is named.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate import validate
from kubernetes_validate.utils import ValidationError

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"
VERSIONS = ("1.29", "1.37")
"""The oldest that is meant, and the newest whose schemas are here."""
OTHERS = ("keda.sh/", "kustomize.config.k8s.io/")
Schemas = Mapping[tuple[str, str], Any]


def definitions(files: list[str]) -> dict[tuple[str, str], Any]:
    """By apiVersion and kind, the schemas of the CustomResourceDefinitions in some files: documents, or lists of them."""
    found = {}
    for file in files:
        for document in yaml.safe_load_all(Path(file).read_text()):
            for one in document["items"] if document and document["kind"] == "List" else [document]:
                if one and one["kind"] == "CustomResourceDefinition":
                    for version in one["spec"]["versions"]:
                        name = f"{one['spec']['group']}/{version['name']}"
                        found[name, one["spec"]["names"]["kind"]] = strict(version["schema"]["openAPIV3Schema"])
    return found


def strict(schema: Any) -> Any:
    """The schema, which refuses fields that it does not know: a cluster would drop them without a word."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    told = {name: strict(one) for name, one in schema.items()}
    known = isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields")
    return {"additionalProperties": False, **told} if known and schema.get("type") == "object" else told


def faults(document: Any, schemas: Schemas) -> Iterator[tuple[str, list[str]]]:
    """Against what a document was checked, and what is wrong; nothing where there is no schema."""
    if schema := schemas.get((document["apiVersion"], document["kind"])):
        found = Draft202012Validator(schema).iter_errors(document)
        yield "the definitions given", [f"{error.message} at {'.'.join(map(str, error.path))}" for error in found]
    elif not document["apiVersion"].startswith(OTHERS):
        for version in VERSIONS:
            try:
                validate(document, version, strict=True)
                yield f"Kubernetes {version}", []
            except ValidationError as error:
                yield f"Kubernetes {version}", [f"{error.message} at {'.'.join(map(str, error.path))}"]


def main(files: list[str]) -> int:
    schemas, checked, bad = definitions(files), 0, 0
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            name = f"{path.name}: {document['kind']} {document.get('metadata', {}).get('name', '')}"
            told = [*faults(document, schemas)]
            if not told:
                print(f"no schema  {name}")
            for against, wrong in told:
                checked, bad = checked + 1, bad + len(wrong)
                for one in wrong:
                    print(f"BAD by {against}  {name}: {one}")
    print(f"{checked} checked against Kubernetes {' and '.join(VERSIONS)}{' and the definitions given' * bool(schemas)}, {bad} faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

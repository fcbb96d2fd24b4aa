"""deploy/kubernetes against the published schemas of Kubernetes, strictly: `make check-kubernetes`. What is not Kubernetes' own (KEDA, kustomize)
has no schema here and is named."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from kubernetes_validate import validate
from kubernetes_validate.utils import ValidationError

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"
VERSIONS = ("1.29", "1.37")
"""The oldest that is meant, and the newest whose schemas are here."""
OTHERS = ("keda.sh/", "kustomize.config.k8s.io/")


def main() -> int:
    faults = checked = 0
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            name = f"{path.name}: {document['kind']} {document.get('metadata', {}).get('name', '')}"
            if document["apiVersion"].startswith(OTHERS):
                print(f"no schema  {name}")
                continue
            for version in VERSIONS:
                try:
                    validate(document, version, strict=True)
                    checked += 1
                except ValidationError as error:
                    faults += 1
                    print(f"BAD {version}  {name}: {error.message} at {'.'.join(map(str, error.path))}")
    print(f"{checked} checked against Kubernetes {' and '.join(VERSIONS)}, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

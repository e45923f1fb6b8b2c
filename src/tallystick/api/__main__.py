"""`python -m tallystick.api`: the OpenAPI document on stdout, as `docs/openapi.json` keeps it."""

from __future__ import annotations

import json
import sys

from tallystick.api.app import openapi_document

sys.stdout.write(json.dumps(openapi_document(), indent=2, ensure_ascii=False) + "\n")

"""Reads ServiceMonitors as a JSON list; prints the number of each that has a fault, and the fault."""

from __future__ import annotations

import json
import sys

import pydantic
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

for number, document in enumerate(json.load(sys.stdin)):
    try:
        model = ServiceMonitor.model_validate(document)
    except pydantic.ValidationError as error:
        for fault in error.errors():
            print(f"[{number}]: {'.'.join(map(str, fault['loc']))}: {fault['type']}")
        continue
    # Fields that it does not know are left out of it.
    if model.model_dump(mode="json", by_alias=True, exclude_unset=True) != document:
        print(f"[{number}]: a field that ServiceMonitor does not have")

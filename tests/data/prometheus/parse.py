"""Prometheus' own reader of its text format: standard input to one JSON object a sample."""

import json
import sys

from prometheus_client.parser import text_string_to_metric_families

for family in text_string_to_metric_families(sys.stdin.read()):
    for sample in family.samples:
        told = {"name": sample.name, "type": family.type, "help": family.documentation}
        print(json.dumps(told | {"labels": sample.labels, "value": sample.value}))

"""Texts that are to stay as they were: files in tests/jobs/golden."""

import difflib
import os
from pathlib import Path

GOLDEN = Path(__file__).parents[1] / "jobs" / "golden"
RENEW = "HPCFILTER_GOLDEN=1 pytest tests/jobs/test_rendered.py tests/jobs/test_containers.py"


def check_golden(name, text):
    """Hold a text against the file of that name, or with HPCFILTER_GOLDEN make the file."""
    golden = GOLDEN / name
    if os.environ.get("HPCFILTER_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert golden.exists(), f"no {name}; write it with: {RENEW}"
    assert text == golden.read_text(), f"{name} has changed; if that is meant, renew it with: {RENEW}"


def difference(base, text):
    """What a text has otherwise than another one, with the places, and nothing that both have."""
    return "".join(f"{line}\n" for line in difflib.unified_diff(base.splitlines(), text.splitlines(), n=0,
                                                                lineterm=""))

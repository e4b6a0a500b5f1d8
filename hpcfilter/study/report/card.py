"""What a run is, and what came out, as the words of its card."""

from hpcfilter.study.report.charts import plain


def headline(record):
    """What came out. record: RunLog. Returns a list of (value, what it is), texts."""
    last = record.epochs[-1]
    done = last["epoch"] + 1
    if last["accuracy"] is not None:
        quality = f"{100 * last['accuracy']:.2f} %", "test accuracy"
    else:
        quality = "diverged" if last["test_loss"] is None else f"{last['test_loss']:.4g}", "test loss"
    return [quality, (f"{100 * (1 - last['passes'] / done):.1f} %", "passes saved"),
            (_duration(sum(row["seconds"]["total"] for row in record.epochs)), "in all")]


def facts(record):
    """What the run is. record: RunLog. Returns a list of (what, value), texts, of what is known;
    the versions come last."""
    run, settings = record.run, record.settings
    ranks, of = run["ranks"], settings.get("train.epochs")
    per_node = run.get("ranks_per_node", ranks)
    found = {
        "policy": record.policy, "fraction": record.filter.get("fraction"),
        "score": settings.get("score.name"), "samples": f"{run['samples']:,}",
        "ranks": f"{ranks:,} ({per_node} per node)" if per_node < ranks else f"{ranks:,}",
        "device": run.get("device"), "global batch": run.get("global_batch"),
        "epochs": f"{len(record.epochs)}{f' of {of}' if of else ''}, {_state(record)}",
        "seed": settings.get("seed"), "started": (run.get("started") or "")[:16].replace("T", " "),
        "machine": run.get("machine"), "commit": (run.get("commit") or "")[:12]}
    versions = ", ".join(f"{name} {version}" for name, version in run.get("versions", {}).items() if version)
    return [*((what, plain(value)) for what, value in found.items() if value not in (None, "")),
            *([("versions", versions)] if versions else [])]


def _state(record):
    if record.end:
        return "finished"
    return "told to leave" if record.rows[-1]["kind"] == "stop" else "not finished"


def _duration(seconds):
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.3g} min" if minutes < 100 else f"{hours:,.3g} h"

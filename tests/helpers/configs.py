"""Run configs of the tests."""

import pytest


@pytest.fixture
def config(tmp_path):
    """config(path of a packed file, {table: {key: value}}) -> path of a short run config; a value of None
    leaves a key out. phase: list of tables."""

    def write(packed, **tables):
        base = {"data": {"path": str(packed)}, "model": {"name": "cnn", "width": 4},
                "filter": {"policy": "none"}, "train": {"epochs": 2, "global_batch": 120},
                "optim": {"lr": 0.1}, "schedule": {"warmup_epochs": 0}}
        phases = tables.pop("phase", [])
        if phases:
            base["train"]["epochs"] = None
        for table, values in tables.items():
            base.setdefault(table, {}).update(values)
        lines = []
        for table, values in base.items():
            lines += [f"[{table}]",
                      *(f"{key} = {_toml(value)}" for key, value in values.items() if value is not None)]
        for phase in phases:
            lines += ["[[phase]]", *(f"{key} = {_toml(value)}" for key, value in phase.items())]
        path = tmp_path / f"run{len(list(tmp_path.glob('run*.toml')))}.toml"
        path.write_text("seed = 3\n" + "\n".join(lines))
        return path

    return write


def _toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {_toml(part)}' for key, part in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')

"""The plan of the evidence: which arms are compared. The baselines stand in every plan, whether
it names them or not."""

from typing import Annotated, Any, NamedTuple

from pydantic import Field

from hpcfilter.base.settings import Table


class Batch(Table):
    size: int
    set: dict[str, Any] = Field({})  # settings of all runs of this size, such as its learning rate


class Policy(Table):
    name: str
    filter: dict[str, Any] = Field({"policy": "none"})  # a list stands for one value per fraction
    set: dict[str, Any] = Field({})
    data: list[str] | None = None  # only with these
    batch: list[int] | None = None
    # one number per fraction, for more epochs at no more compute than all data take
    epochs: list[int] | None = None


class Plan(Table):
    config: str  # run config that the settings override
    data: list[str]  # see benchmarks.variants
    epochs: int
    seeds: int = 5
    ranks: int = 1
    fractions: list[Annotated[float, Field(gt=0, lt=1)]] = Field([0.3, 0.5])
    set: dict[str, Any] = Field({})  # settings of all runs
    baselines: bool = True  # false only for finding settings, where nothing is claimed
    probed: int = 0  # of so many seeds the landscape is probed
    probe: list[str] = Field([])  # words for `hpcfilter probe`
    batch: list[Batch]
    policy: list[Policy] = Field([])


class Arm(NamedTuple):
    """What one line of the table is about."""

    data: str
    batch: int
    name: str
    role: str  # full, short, random or policy
    epochs: int
    settings: dict

    @property
    def folder(self):
        """A folder name of the letters and digits in the name."""
        return f"{self.data}/{self.batch}/{''.join(c if c.isalnum() else '-' for c in self.name.lower())}"


def arms(plan):
    """The arms of a plan, baselines first, in the order of the table."""
    found = []
    for data in plan.data:
        for batch in plan.batch:
            def arm(name, role, filter, epochs=plan.epochs, more=None, data=data, batch=batch):
                found.append(Arm(data, batch.size, name, role, epochs,
                                 {**batch.set, **(more or {}), "filter": filter}))

            arm("all data", "full", {"policy": "none"})
            for fraction in plan.fractions if plan.baselines else ():
                epochs = round(plan.epochs * (1 - fraction))
                warmup = {key: value * epochs / plan.epochs
                          for key, value in {**plan.set, **batch.set}.items()
                          if key == "schedule.warmup_epochs"}
                arm(f"all data, {epochs} epochs", "short", {"policy": "none"}, epochs, warmup)
            for fraction in plan.fractions if plan.baselines else ():
                arm(f"random {fraction:g}", "random", {"policy": "random", "fraction": fraction})
            for policy in plan.policy:
                if data in (policy.data or [data]) and batch.size in (policy.batch or [batch.size]):
                    for number, (name, filter) in enumerate(_expanded(policy, plan.fractions)):
                        arm(name, "policy", filter,
                            policy.epochs[number] if policy.epochs else plan.epochs, policy.set)
    return found


def _expanded(policy, fractions):
    """(name, filter) for each fraction; one alone when no value of the filter is a list."""
    if not any(isinstance(value, list) for value in policy.filter.values()):
        return [(policy.name, policy.filter)]
    return [(f"{policy.name} {fraction:g}", {key: value[number] if isinstance(value, list) else value
                                             for key, value in policy.filter.items()})
            for number, fraction in enumerate(fractions)]

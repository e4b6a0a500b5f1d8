"""Keys of run configs that have moved: refused, with the place where they are now."""

from hpcfilter.base.errors import InputError

MOVED = {  # old key -> new key
         **{f"train.{key}": f"optim.{key}"
            for key in ("lr", "lr_batch", "lr_scaling", "momentum", "trust", "weight_decay", "clip_norm")},
         **{f"train.{key}": f"schedule.{key}"
            for key in ("warmup_epochs", "warmup_lr", "power", "milestones", "gamma")},
         **{f"train.{key}": f"record.{key}" for key in ("breakdown", "noise_scale")},
         "train.optimizer": "optim.name", "train.optimizer_options": "optim.options",
         "train.schedule": "schedule.name", "train.loss": "loss.name",
         "train.label_smoothing": "loss.label_smoothing",
         "train.reduction": 'exchange.kind ("allreduce" or "adasum")',
         "train.compression": "exchange.compression", "train.micro_batch": "pass.micro.samples",
         "train.extrapolate": "pass.extrapolate.direction",
         "train.extrapolation": "pass.extrapolate.distance",}
# policies that cut once, which is now at the beginning of a phase
ONCE = ("forget", "ccs", "dyn_unc", "static")


def check_moved(source):
    """Raise InputError for the first key that has moved. source: base.settings.Settings."""
    for table, values in source.tables.items():
        for key in values if isinstance(values, dict) else ():
            if new := MOVED.get(f"{table}.{key}"):
                raise InputError(f"{source.place([table, key])}{table}.{key}: has moved to {new}")
    chosen = source.tables.get("filter")
    if isinstance(chosen, dict) and chosen.get("policy") in ONCE:
        for key in [key for key in ("after", "restart") if key in chosen]:
            raise InputError(f"{source.place(['filter', key])}filter.{key}: "
                             f"has become phases, at the beginning of which {chosen['policy']} cuts: "
                             "[[phase]] epochs = 20, then [[phase]] epochs = 70, weights = \"fresh\" (or "
                             f"\"kept\"), filter = {{policy = \"{chosen['policy']}\", ...}}")

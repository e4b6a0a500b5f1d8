"""What lies in a run folder, and who writes it. A test holds runs against it."""

FILES = {  # name -> what it is; EPOCH and STEP are numbers
    "config.toml": "the resolved run config, without [job]; training with it does the same again",
    "metrics.jsonl": "what was measured: a row a line (see: metrics.jsonl)",
    "checkpoints/epoch-EPOCH/": "a generation: the run at the end of an epoch, whole or not there at all",
    "checkpoints/epoch-EPOCH-step-STEP/": "a generation inside of an epoch",
    "checkpoints/*/model.pt": "weights, buffers and the state of the optimiser; read with weights_only",
    "checkpoints/*/scores.h5": "what is known of each sample, with the score's own memory",
    "checkpoints/*/trained.h5": "inside of an epoch: what was observed of each sample trained in it so far",
    "checkpoints/*/buffers.h5": "inside of an epoch: the buffers of each rank's model",
    "checkpoints/*/stamp.json": "epoch, step, digests and settings that a resumed run must share",
    "checkpoints/*/SHA256SUMS": "checksums over every byte; by hand: sha256sum -c SHA256SUMS",
    "DONE": "marker: the run is finished",
    "REQUEUE": "marker: the run was told to leave and has saved; the same command with --resume goes on",
    "lock": "held by the job that works in this folder",
    "lock.owner": "the same where the file system has no flock: host, process and job, touched often",
    "job.sh": "the job script, written by `hpcfilter jobs submit`",
    "scores.h5": "the table of `hpcfilter score`",
    "selection.h5": "the table of `hpcfilter select`",
    "probe.h5": "the landscape, written by `hpcfilter probe`",
    "report.html": "the page of `hpcfilter report`; it opens offline",
}

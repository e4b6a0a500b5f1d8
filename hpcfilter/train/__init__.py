"""The training run: its loop, and what it is made of. `run.train` starts one; the parts that need torch are
imported by whoever needs them."""

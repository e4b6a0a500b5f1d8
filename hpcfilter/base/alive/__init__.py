"""Signs of life: progress, notice to leave, the watchdog over both, and faults on purpose."""

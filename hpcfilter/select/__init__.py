"""The heart: who trains in an epoch, and at which weight. Exact thresholds, scores, policies,
the order of an epoch."""

"""Names of the metrics that subnets are scored by; `supernet.metrics` computes them, and needs torch for it."""

METRICS = ("cc", "kld", "nss", "sim", "auc")

"""Entry points: parse arguments into one config, call one function of cluster."""

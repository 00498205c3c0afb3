"""Which operations make one unit: matchers that are asked in order, each ``match(view, op) -> Unit | None``."""

"""Networks as graphs of operations: traced, rewritten, and what can be known of their values before any is computed.

`primitives` says what each operation of JAX does, `trace` makes the graph; everything else is derived from these two.
"""

"""The gates between a proposed task and the library: what is proven of a task, and in which order."""

"""HTTP, processes and the environment: what people and operators touch."""

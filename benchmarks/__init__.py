"""How fast it is, measured beside its peers. Knows the whole service; nothing of the service knows it."""

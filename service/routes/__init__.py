"""The calls of the API, one noun a file. Routes know HTTP and nothing of how things are done."""

"""The SimPy engine: the readable meaning of the model (docs/explanation/model.md)."""

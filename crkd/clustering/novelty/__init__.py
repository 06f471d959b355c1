"""How far features are from the known classes."""

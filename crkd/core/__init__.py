"""What every other part may use: types, the registry, errors."""

"""The training loop that every stage uses: steps, states, teachers, loggers."""

"""A world with known ground truth, and the replay of logged history through the real pipeline."""

"""How many notifications a person gets, and what a unit of their attention is worth."""

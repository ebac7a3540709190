"""How raw text becomes documents: one reader a file, found by its name in the recipe."""

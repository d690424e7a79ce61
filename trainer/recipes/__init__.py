"""How a model is trained: the recipes and what they are made of."""

"""What the functions and the containers share: one module knows each fact."""

"""`droplens forget`: an image, all its versions and everything made from it are removed."""

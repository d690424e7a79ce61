"""One image: decoded, resized, encoded, and recognised when it comes again."""

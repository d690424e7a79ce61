"""Work on single images: decoding, resizing, encoding, fingerprints for duplicates."""

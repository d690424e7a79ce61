"""Sources of labelled images: folders, archives, label files."""

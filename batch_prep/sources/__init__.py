"""Where labelled images come from: folders, archives, label files."""

"""Work split over jobs and processes, and its files merged into one dataset."""
